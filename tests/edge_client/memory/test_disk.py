"""The client's own disk: full, or damaged. It says so, and goes on when it can; it never takes damage for memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.coordinator.faults import filled, small_disk
from tests.coordinator.served import Served
from tests.edge_client.conftest import MakeTransfer
from tests.edge_client.fleet import Fleet
from tests.edge_client.memory.memory_writer import outcome
from thinwire.edge_client.enrolment import enrol
from thinwire.edge_client.memory.folder import Credentials, Folder
from thinwire.edge_client.model import first_model
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.edge_client.settings import UsageError
from thinwire.protocol.exit_codes import Exit


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def garble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_full_disk_is_waited_out(tmp_path: Path, coordinator: Served, fleet: Fleet) -> None:
    """Full from before the first task on; freed when the client has said so."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        run = coordinator.run(first_model(find_problem("digits"), 0), method="fedavg", rounds=2, cohort=1)["id"]
        data_dir = disk / "client"
        one = fleet.join(coordinator.url, "one", "0/1", invite=coordinator.invite(), data_dir=data_dir)
        # Enrolled by then, with nothing to do before the run is resumed.
        one.until("joined")
        with filled(disk):
            one.until("this client's disk: No space left on device")
        code, said = one.end()
        assert code == Exit.OK, said
        view = coordinator.get(f"/v1/runs/{run}").json()
        assert view["outcome"] == "completed"
        assert [one["answers"] for one in coordinator.get(f"/v1/runs/{run}/metrics").json()["exchanges"]] == [1, 1, 1]


@pytest.mark.parametrize("damage", [cut, garble, Path.unlink])
@pytest.mark.parametrize("name", ["outcome-task000001", "outcome-task000002", "state"])
def test_damaged_memory_begins_anew_and_is_kept_aside(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    folder = Folder(tmp_path / "c")
    run = folder.run("run001")
    for number in (1, 2):
        run.stage(outcome(number))
        if number == 1:
            run.decide("task000001", "accepted")
    folder.close()
    damage(tmp_path / "c" / "runs" / "run001" / name)
    said: list[str] = []
    folder = Folder(tmp_path / "c", said.append)
    (found,) = folder.runs()
    assert (found.memory(), found.state.staged) == ({}, None)
    if (name, damage) != ("state", Path.unlink):  # without a state it looks like a run that has not begun
        assert "run001 is damaged" in said[0]
        assert (tmp_path / "c" / "damaged" / "run001" / "outcome-task000001").exists() or name == "outcome-task000001"
    found.stage(outcome(3))
    found.decide("task000003", "accepted")
    assert np.array_equal(found.memory()["memory"], outcome(3).accepted["memory"])
    folder.close()


@pytest.mark.parametrize("damage", [cut, garble])
def test_damaged_credentials_are_named(
    tmp_path: Path, make_transfer: MakeTransfer, damage: Callable[[Path], None]
) -> None:
    folder = Folder(tmp_path / "c")
    folder.keep_credentials(Credentials("http://127.0.0.1:9", "client-00", "secret"))
    damage(tmp_path / "c" / "credentials")
    with pytest.raises(UsageError, match="credentials are damaged") as caught:
        enrol(make_transfer("http://127.0.0.1:9"), folder, "invite", "client-00")
    assert "secret" not in str(caught.value)
    folder.close()


@pytest.mark.parametrize("damage", [cut, garble])
def test_damaged_plans_and_counters_are_fetched_and_counted_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = Folder(tmp_path / "c")
    folder.keep_plan(b"\1" * 32, b"plan")
    folder.keep_link(5, 7)
    damage(tmp_path / "c" / "plans" / ("01" * 32))
    damage(tmp_path / "c" / "link")
    assert folder.plan(b"\1" * 32) is None
    assert folder.link() == (0, 0)
    folder.close()


def test_an_enrolment_whose_answer_was_lost_is_asked_for_again_by_the_same_name(
    tmp_path: Path, coordinator: Served, make_transfer: MakeTransfer
) -> None:
    """A one-time invite, no name given, and a death between the coordinator's commit and the client's."""
    invite = coordinator.invite(uses=1)
    folder = Folder(tmp_path / "c")
    lost = enrol(make_transfer(coordinator.url), folder, invite, None)
    folder.forget_credentials()
    folder.close()
    folder = Folder(tmp_path / "c")
    found = enrol(make_transfer(coordinator.url), folder, invite, None)
    assert found.client == lost.client
    assert found.token != lost.token
    folder.close()
