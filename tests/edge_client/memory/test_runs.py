"""The client remembers exactly one thing at each instant, whatever kills it; a torn file is never taken for whole."""

from __future__ import annotations

import itertools
import random
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.edge_client.memory.memory_writer import outcome
from thinwire.edge_client.memory.folder import Credentials, Folder, FolderInUseError
from thinwire.edge_client.memory.records import Record, TornRecordError, read_record, write_record
from thinwire.edge_client.memory.runs import RunMemory

WRITER = Path(__file__).with_name("memory_writer.py")
KILLS = 12


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = Record(
        {"task": "a", "numbers": [1, 2.5, None]},
        {"payload": b"x" * 1000, "empty": b""},
        {"memory": {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(True)}, "none": {}},
    )
    write_record(tmp_path / "r", record)
    found = read_record(tmp_path / "r")
    assert found.facts == record.facts
    assert found.blobs == record.blobs
    assert found.bundles.keys() == record.bundles.keys()
    assert np.array_equal(found.bundles["memory"]["a"], record.bundles["memory"]["a"])
    assert found.bundles["memory"]["b"].shape == ()


def test_every_cut_and_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "r"
    write_record(path, Record({"a": 1}, {"payload": b"0123"}, {"m": {"x": np.arange(3)}}))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(TornRecordError):
            read_record(path)
        flipped = bytearray(whole)
        flipped[size] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(TornRecordError):
            read_record(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(TornRecordError):
        read_record(path)


def test_a_verdict_promotes_one_memory_and_the_staged_answer_stays(tmp_path: Path) -> None:
    run = RunMemory(tmp_path / "run001")
    assert run.memory() == {}
    run.stage(outcome(1))
    assert run.memory() == {}
    run.decide("task000001", "refused")
    assert run.memory()["memory"][0] == 3
    kept = run.outcome("task000001")
    assert kept is not None
    assert kept.payload == outcome(1).payload

    run.stage(outcome(2))
    assert run.memory()["memory"][0] == 3
    run.decide("task000001", "accepted")
    assert run.memory()["memory"][0] == 3, "a second verdict on an old task changes nothing"
    run.decide("task000002", "accepted")
    run.decide("task000002", "refused")
    assert run.memory()["memory"][0] == 4
    assert run.outcome("task000001") is None


def test_what_is_no_longer_needed_is_removed(tmp_path: Path) -> None:
    run = RunMemory(tmp_path / "run001")
    for number in range(1, 6):
        run.hold(number, {"model": {"w": np.zeros(1)}})
        run.stage(outcome(number))
        run.decide(f"task{number:06}", "accepted")
    assert sorted(path.name for path in (tmp_path / "run001").iterdir()) == ["outcome-task000005", "parts-5", "state"]


def test_another_process_finds_what_this_one_left(tmp_path: Path) -> None:
    first = RunMemory(tmp_path / "run001")
    first.hold(7, {"model": {"w": np.arange(3)}, "head": {"v": np.ones(2)}})
    first.stage(outcome(7))
    first.remember_upload("upload01")
    second = RunMemory(tmp_path / "run001")
    assert second.state == first.state
    assert second.state.upload == "upload01"
    assert list(second.parts()) == ["model", "head"]
    assert np.array_equal(second.parts()["model"]["w"], np.arange(3))


def _consistent(run: RunMemory) -> int:
    """Checks that all that the state names is whole and belongs together; returns the number of decided outcomes."""
    state = run.state
    decided = 0
    if state.decided is not None:
        decided = int(state.decided[0].removeprefix("task"))
        choice = "accepted" if decided % 2 else "refused"
        assert state.decided[1] == choice
        assert set(run.memory()["memory"].tolist()) == {2 * decided + (choice == "refused")}
    if state.staged is not None:
        number = int(state.staged.removeprefix("task"))
        assert number == decided + 1
        found, expected = run.outcome(state.staged), outcome(number)
        assert found is not None
        assert (found.payload, found.examples, found.metrics) == (expected.payload, number, expected.metrics)
    if state.held is not None:
        assert state.held in (decided, decided + 1)
        assert set(run.parts()["model"]["w"].tolist()) == {state.held}
    return decided


def test_killed_at_any_instant_it_remembers_exactly_one_thing(tmp_path: Path) -> None:
    rng = random.Random(0)
    last = 0
    for _ in range(KILLS):
        command = [sys.executable, WRITER, tmp_path / "c"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines = list(itertools.islice(writer.stdout, rng.randint(1, 30)))
            try:
                # Somewhere within the next few operations.
                writer.wait(rng.random() * 0.01)
            except subprocess.TimeoutExpired:
                writer.kill()
            lines += writer.stdout.readlines()
        assert writer.returncode == -signal.SIGKILL
        said = [line.split() for line in lines if line.endswith("\n")]
        last = max([last, *(int(number) for what, number in said if what == "decided")])
        folder = Folder(tmp_path / "c")
        decided = _consistent(folder.run("run001"))
        # What was said to be done is done; at most one more is, that there was no time to say.
        assert decided in (last, last + 1)
        last = decided
        folder.close()
    assert last > KILLS


def test_a_folder_serves_one_process_at_a_time(tmp_path: Path) -> None:
    first = Folder(tmp_path / "c")
    with pytest.raises(FolderInUseError):
        Folder(tmp_path / "c")
    first.close()
    Folder(tmp_path / "c").close()


def test_credentials_are_for_the_owner_only(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "c")
    assert folder.credentials() is None
    folder.keep_credentials(Credentials("http://here", "client-00", "secret"))
    assert folder.credentials() == Credentials("http://here", "client-00", "secret")
    assert stat.S_IMODE((tmp_path / "c" / "credentials").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    folder.close()


def test_plans_and_counters_are_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "c")
    assert folder.plan(b"\1" * 32) is None
    folder.keep_plan(b"\1" * 32, b"plan")
    folder.keep_link(5, 7)
    folder.close()
    folder = Folder(tmp_path / "c")
    assert folder.plan(b"\1" * 32) == b"plan"
    assert folder.link() == (5, 7)
    folder.close()


def test_each_process_of_a_folder_begins_behind_those_before_it(tmp_path: Path) -> None:
    said: list[str] = []
    for count in (1, 2, 3):
        folder = Folder(tmp_path / "c", said.append)
        assert folder.begin() == count
        folder.close()
    assert not said
    # Whoever does not know says nothing: a number that is too low would be another's.
    (tmp_path / "c" / "starts").write_bytes(b"torn")
    folder = Folder(tmp_path / "c", said.append)
    assert folder.begin() is None
    assert len(said) == 1
    folder.close()
