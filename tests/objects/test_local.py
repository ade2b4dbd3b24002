"""Objects as local files: closed to others, and moved once from the folders of before."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from thinwire.codecs import CodecError
from thinwire.coordinator.objects.local import LocalObjects, own_folder
from thinwire.coordinator.objects.migration import move_payloads
from thinwire.coordinator.objects.objects import KINDS, answer, checkpoint, payload
from thinwire.coordinator.objects.partial import Partials
from thinwire.coordinator.objects.states import keep_states, put_state, read_state
from thinwire.methods.values import State


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    objects = LocalObjects(tmp_path / "data")
    objects.open()
    return objects


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_is_closed_to_others_also_where_the_folders_were_open_before(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        root = tmp_path / "data"
        for folder in (root, root / "payloads", root / "uploads"):
            folder.mkdir(mode=0o755)
        objects, partials = LocalObjects(root), Partials(root)
        objects.open()
        partials.open()
        objects.put(payload("aaa", bytes(32)), b"x", durable=True)
        objects.put(answer("one"), b"x", durable=False)
        partials.create("up")
        objects.take(partials.path("up"), checkpoint("aaa", 1), durable=False)
        partials.create("up")
    finally:
        os.umask(old)
    found = {mode(path) for path in (root, *root.rglob("*")) if path.is_dir()}
    assert found == {0o700}
    assert {mode(path) for path in root.rglob("*") if path.is_file()} == {0o600}


def test_a_folder_that_is_shared_by_intent_stays_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    own_folder(shared)
    assert mode(shared) == 0o1777


def test_what_is_put_durably_is_on_the_disk_with_its_name(
    objects: LocalObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a process that died had put it, but may not have seen its name there."""
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
    folders = [objects.root / "payloads" / "aaa", objects.root / "checkpoints" / "aaa"]
    file = tmp_path / "finished"
    for durable in (True, False):
        objects.put(payload("aaa", bytes(32)), b"x", durable=durable)
        file.write_bytes(b"x")
        objects.take(file, checkpoint("aaa", 0), durable=durable)
        assert {path for path in synced if path in folders} == (set(folders) if durable else set())
        synced.clear()
    objects.put(payload("aaa", bytes(32)), b"x", durable=True)
    assert synced == folders[:1]
    objects.put(payload("aaa", b"1" * 32), b"x", durable=True)
    assert [path.name.startswith(f"{(b'1' * 32).hex()}.") for path in synced] == [False, True, False]


def test_what_was_being_written_when_a_process_died_goes(objects: LocalObjects) -> None:
    objects.put(payload("aaa", bytes(32)), b"whole", durable=True)
    torn = objects.root / "payloads" / "aaa" / f"{bytes(32).hex()}.0123abcd.tmp"
    torn.write_bytes(b"to")
    objects.open()
    assert not torn.exists()
    assert objects.usage() == {**dict.fromkeys(KINDS, 0), "payloads": 5}


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a_state_is_the_one_that_was_put_last_and_stays_readable(objects: LocalObjects, size: int) -> None:
    """One that was put before, of answers that were never noted, is not taken for it; what is mapped stays."""
    lost = State(3, 1, {"w": np.zeros(size, np.float32)})
    state = State(3, 1, {"w": np.arange(size, dtype=np.float32)})
    mapped_lost = put_state(objects, "aaa", 7, lost)
    mapped = put_state(objects, "aaa", 7, state)
    read = read_state(objects, "aaa", 7)
    for found in (mapped, read):
        assert (found.round, found.step) == (3, 1)
        np.testing.assert_array_equal(found.arrays["w"], state.arrays["w"])
    for exchange in (5, 8):
        put_state(objects, "aaa", exchange, state)
    put_state(objects, "aa", 1, state)
    keep_states(objects, "aaa", {8: None, 9: None})
    assert objects.names("checkpoints") == ["checkpoints/aa/1", "checkpoints/aaa/8"]
    with pytest.raises(FileNotFoundError):
        read_state(objects, "aaa", 7)
    np.testing.assert_array_equal(mapped.arrays["w"], state.arrays["w"])
    np.testing.assert_array_equal(mapped_lost.arrays["w"], lost.arrays["w"])


def test_a_damaged_state_is_none(objects: LocalObjects) -> None:
    put_state(objects, "aaa", 0, State(0, 0, {"w": np.ones(10, np.float32)}))
    path = objects.local(checkpoint("aaa", 0))
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]):
        path.write_bytes(damaged)
        with pytest.raises(CodecError):
            read_state(objects, "aaa", 0)


@pytest.mark.parametrize("repeated", [False, True])
def test_payloads_of_the_folders_of_before_go_to_the_runs_that_need_them(objects: LocalObjects, repeated: bool) -> None:
    contents = [b"of one", b"of two", b"of none", b"of one, moved before a crash"]
    digests = [hashlib.sha256(content).digest() for content in contents]
    for digest, content in zip(digests, contents, strict=True):
        (objects.root / "payloads" / digest.hex()).write_bytes(content)
    needed = [("aaa", digests[0]), ("aaa", digests[1]), ("bbb", digests[1]), ("bbb", digests[3]), ("bbb", bytes(32))]
    if repeated:
        objects.put(payload("bbb", digests[3]), contents[3], durable=True)
    assert move_payloads(objects, []) == 4
    assert move_payloads(objects, needed) == 0
    assert {name: objects.local(name).read_bytes() for name in objects.names("payloads")} == {
        payload("aaa", digests[0]): contents[0],
        payload("aaa", digests[1]): contents[1],
        payload("bbb", digests[1]): contents[1],
        payload("bbb", digests[3]): contents[3],
    }
    assert objects.usage()["payloads"] == sum(map(len, (contents[0], contents[1] * 2, contents[3])))
    assert move_payloads(objects, needed) == 0


def test_a_leader_that_has_been_replaced_deletes_no_state_of_its_successor(objects: LocalObjects) -> None:
    """It deletes older exchanges, but for that of the best model, and of the others what leaders before it left."""
    for exchange, epoch in ((3, 1), (4, 1), (5, 1), (5, 2), (6, 1), (6, 2), (6, 3), (7, 3)):
        put_state(objects, "aaa", exchange, State(exchange, 0, {"w": np.ones(3, np.float32)}), epoch)
    put_state(objects, "aaa", 0, State(0, 0, {"w": np.ones(3, np.float32)}))
    keep_states(objects, "aaa", {4: 1, 5: 1}, 2)
    kept = ["4-1", "5-1", "5-2", "6-2", "6-3", "7-3"]
    assert objects.names("checkpoints") == [f"checkpoints/aaa/{name}" for name in kept]
    keep_states(objects, "aaa", {6: 2, 7: 3}, 3, [(4, 1)])
    assert objects.names("checkpoints") == [f"checkpoints/aaa/{name}" for name in ("4-1", "6-2", "6-3", "7-3")]
    assert read_state(objects, "aaa", 7, 3).round == 7
