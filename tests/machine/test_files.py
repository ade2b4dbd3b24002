"""A file is whole or not there; what fails leaves nothing behind; what is said to last is on the disk."""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thinwire.machine.files import (
    bytes_below,
    drop_unfinished,
    file_digest,
    move,
    read_mapped,
    unfinished,
    write_atomic,
)

MIB = 1 << 20


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("fsync", [False, True])
def test_what_is_written_is_read_and_replaces_what_was_there(tmp_path: Path, fsync: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"something longer that was there before")
    for pieces in (b"whole", [b"wh", memoryview(b"ole")], iter([memoryview(b"whole")]), b""):
        write_atomic(path, pieces, fsync=fsync)
        assert path.read_bytes() == (b"" if pieces == b"" else b"whole")
        assert names(tmp_path) == {"file"}


@pytest.mark.parametrize("error", [OSError(28, "no space left"), ValueError("no piece"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    def pieces() -> Iterator[bytes]:
        yield bytes(MIB)
        raise error

    path = tmp_path / "file"
    for before in (None, b"old"):
        if before is not None:
            path.write_bytes(before)
        with pytest.raises(type(error)):
            write_atomic(path, pieces(), fsync=True)
        assert names(tmp_path) == (set() if before is None else {"file"})
        assert before is None or path.read_bytes() == before


def test_a_place_that_cannot_be_taken_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        write_atomic(tmp_path / "file", b"data", fsync=True)
    assert names(tmp_path) == {"file"}


_FULL = """
import resource, signal, sys
from pathlib import Path
from thinwire.machine.files import write_atomic

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    write_atomic(Path(sys.argv[1]), [bytes(1000)] * 100, fsync=True)
except OSError as error:
    print(type(error).__name__)
"""


def test_a_disk_that_takes_no_more_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "OSError"
    assert (path.read_bytes(), names(tmp_path)) == (b"old", {"file"})


def test_permissions_are_the_owners_unless_more_is_wished(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_atomic(tmp_path / "secret", b"", fsync=False)
        write_atomic(tmp_path / "open", b"", fsync=False, mode=0o644)
        write_atomic(tmp_path / "new" / "folder" / "file", b"", fsync=False)
        (tmp_path / "was open").touch(0o666)
        write_atomic(tmp_path / "was open", b"", fsync=False)
    finally:
        os.umask(old)

    def mode(name: str) -> int:
        return (tmp_path / name).stat().st_mode & 0o777

    assert [mode(name) for name in ("secret", "open", "was open")] == [0o600, 0o644, 0o600]
    assert [mode(name) for name in ("new", "new/folder", "new/folder/file")] == [0o700, 0o700, 0o600]


_TRACE = """
import os, sys
from pathlib import Path
from thinwire.machine import files

real, synced = os.fsync, []

def fsync(descriptor):
    synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    real(descriptor)

os.fsync = fsync
at = Path(sys.argv[1])
what = sys.argv[2]
if what == "write":
    files.write_atomic(at / "file", b"data", fsync=True)
elif what == "below":
    files.write_atomic(at / "new" / "folder" / "file", b"data", fsync=True)
elif what == "move":
    (at / "ready").write_bytes(b"data")
    files.move(at / "ready", at / "other" / "file", fsync=True)
else:
    files.write_atomic(at / "file", b"data", fsync=False)
    files.move(at / "file", at / "moved", fsync=False)
print("\\n".join(synced))
"""


def _unhurried(text: str) -> str:
    return "FILE" if text.endswith(".tmp") else text


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="what is synced is read from /proc")
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("write", ["FILE", ""]),
        ("below", ["", "new", "FILE", "new/folder"]),
        ("move", ["ready", "other"]),
        ("nothing", []),
    ],
)
def test_the_content_is_on_the_disk_before_its_name_and_every_new_name_is(
    tmp_path: Path, what: str, expected: list[str]
) -> None:
    (tmp_path / "other").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _TRACE, str(tmp_path), what], capture_output=True, text=True, check=True
    )
    synced = [_unhurried(line).removeprefix(str(tmp_path)).lstrip("/") for line in done.stdout.split()]
    assert synced == expected


def test_what_a_dead_process_was_writing_is_found_and_deleted(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    for folder in (tmp_path, below):
        (folder / "kept").touch()
        first, second = unfinished(folder / "kept"), unfinished(folder / "kept")
        assert first != second
        assert first.parent == folder
        first.touch()
    drop_unfinished(tmp_path)
    assert (names(tmp_path), names(below)) == ({"below", "kept"}, {"kept"})


def test_a_moved_file_replaces_what_was_there(tmp_path: Path) -> None:
    for fsync in (False, True):
        (tmp_path / "source").write_bytes(b"new")
        (tmp_path / "target").write_bytes(b"old")
        move(tmp_path / "source", tmp_path / "target", fsync=fsync)
        assert names(tmp_path) == {"target"}
        assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.parametrize(("size", "kind"), [(0, bytes), (1, bytes), (MIB, bytes), (MIB + 1, mmap.mmap)])
def test_reading_gives_the_files_bytes_and_maps_large_ones(tmp_path: Path, size: int, kind: type) -> None:
    data = os.urandom(size)
    write_atomic(tmp_path / "file", data, fsync=False)
    found = read_mapped(tmp_path / "file")
    assert isinstance(found, kind)
    assert bytes(found) == data
    assert file_digest(tmp_path / "file") == hashlib.sha256(data).digest()


@pytest.mark.parametrize("read", [read_mapped, file_digest])
def test_a_file_that_is_not_there_is_said_so(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere")


def test_a_folder_is_measured_without_one_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "uploads").mkdir()
    (tmp_path / "models" / "m").write_bytes(b"x" * 100)
    (tmp_path / "uploads" / "u").write_bytes(b"x" * 1000)
    (tmp_path / "thinwire.db").write_bytes(b"x" * 10)
    assert bytes_below(tmp_path, but=tmp_path / "uploads") == 110
    assert bytes_below(tmp_path) == 1110
