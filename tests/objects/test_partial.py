"""What has arrived of an upload is a file whose size is the offset, whatever happens in between."""

from __future__ import annotations

import hashlib
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.coordinator.objects.partial import Partials

IDS = ["one", "two"]


@settings(max_examples=50)
@given(
    steps=st.lists(
        st.tuples(st.just("append"), st.sampled_from(IDS), st.lists(st.binary(max_size=9), max_size=3))
        | st.tuples(st.sampled_from(["truncate", "rewind"]), st.sampled_from(IDS), st.integers(0, 20))
        | st.tuples(st.sampled_from(["create", "delete"]), st.sampled_from(IDS), st.none()),
        max_size=25,
    )
)
def test_an_upload_holds_what_was_appended(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple]) -> None:
    root = tmp_path_factory.mktemp("data")
    partials, model = Partials(root), dict[str, bytes]()
    partials.open()
    for step, upload, value in steps:
        if upload not in model and step not in ("create", "delete"):
            with pytest.raises(FileNotFoundError):
                partials.appending(upload)
            continue
        match step:
            case "create" if upload in model:
                with pytest.raises(FileExistsError):
                    partials.create(upload)
            case "create":
                partials.create(upload)
                model[upload] = b""
            case "append":
                with partials.appending(upload) as tail:
                    for chunk in value:
                        tail.write(memoryview(chunk))
                        model[upload] += chunk
                        assert tail.offset == len(model[upload]) == partials.offset(upload)
            case "truncate" if value <= len(model[upload]):
                partials.truncate(upload, value)
                model[upload] = model[upload][:value]
            case "rewind" if value <= len(model[upload]):
                with partials.appending(upload) as tail:
                    tail.write(b"not meant")
                    tail.truncate(value)
                    tail.write(b"meant")
                model[upload] = model[upload][:value] + b"meant"
            case "delete":
                partials.delete([upload])
                model.pop(upload, None)
        assert partials.ids() == set(model)
        assert partials.usage() == sum(map(len, model.values()))
        assert {name: partials.path(name).read_bytes() for name in model} == model
        for name, content in model.items():
            assert partials.checksum(name, 2, 7, "sha1") == hashlib.sha1(content[2:7]).digest()  # noqa: S324


def test_what_lies_elsewhere_is_filled_in(tmp_path: Path) -> None:
    partials, content = Partials(tmp_path / "data"), bytes(range(200))
    partials.open()
    partials.create("up", 150)
    with partials.appending("up") as tail:
        assert tail.offset == 150
        tail.write(content[150:])
    assert b"".join(partials.pieces("up", 150, 180)) == content[150:180]
    for begin, end in ((90, 150), (0, 90)):
        (tmp_path / "part").write_bytes(content[begin:end])
        partials.fill("up", begin, tmp_path / "part")
    assert partials.path("up").read_bytes() == content


_FULL = """
import sys
from pathlib import Path
from thinwire.coordinator.objects.partial import Partials

partials = Partials(Path(sys.argv[1]))
partials.open()
partials.create("up")
with partials.appending("up") as tail:
    tail.write(bytes(1000))
    try:
        tail.write(bytes(1 << 20))
    except OSError:
        print(tail.offset, partials.offset("up"))
"""


def _small_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))


def test_what_a_full_disk_took_counts(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=_small_files)
    assert done.stdout.split() == [str(1 << 16)] * 2


@pytest.mark.parametrize("upload", ["", "../operator.token", "a/b", "x.tmp", "x\n"])
def test_nothing_but_an_id_is_a_file(tmp_path: Path, upload: str) -> None:
    with pytest.raises(ValueError, match="no upload's id"):
        Partials(tmp_path).path(upload)
