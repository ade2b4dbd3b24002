"""A copy of a folder that is served is a whole one, and what was said after it counts no more."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, Received, simulate
from tests.coordinator.served import Served, model
from thinwire.coordinator.backup import BackupError, back_up, restore
from thinwire.protocol.encoding import decode_message
from thinwire.protocol.messages import AnswerMessage, DeclineMessage, Problem

NAMES = ["client-00", "client-01", "client-02"]
SETTINGS = {"steps": 1, "delta": True}
ROUNDS = 5


class Wavering(NumpyClient):
    """`astray`: its answers weigh something else."""

    astray = False

    def perform(self, received: Received) -> tuple[bytes, int]:
        data, examples = super().perform(received)
        return data, examples * (1000 if self.astray else 1)


def test_a_run_goes_on_from_a_backup_as_if_the_lost_future_had_not_been(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    """Also for a client that comes back with what it got in that future, to an exchange of the same number."""
    served = serve(present_for_s=0.1)
    run = served.run(model(50), rounds=ROUNDS, cohort=2, settings=SETTINGS)["id"]
    again = Served(tmp_path / "again", served.port, served.options)

    async def play() -> list[str]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            invite = served.invite()
            ann, bob, zoe = clients = [Wavering(http, name) for name in NAMES]
            for client in clients:
                await client.enrol(invite)

            async def exchange(*those: Wavering) -> None:
                await asyncio.gather(*(client.work(len(client.verdicts) + 1) for client in those))

            async def without(client: Wavering, *those: Wavering) -> None:
                message = await client.register()
                assert message is not None
                await client.send(f"/v1/tasks/{message.task}/decline", DeclineMessage(detail="not now"))
                await exchange(*those)

            await exchange(ann, bob)
            await exchange(ann, bob)
            await asyncio.to_thread(back_up, served.data_dir, tmp_path / "copy")
            ann.astray = True
            lost = await ann.register()
            assert lost is not None
            data, examples = ann.perform(await ann.fetch(lost))
            await exchange(ann, bob)
            await without(ann, bob, zoe)
            ann.astray = False
            served.kill()
            await asyncio.to_thread(restore, tmp_path / "copy", again.data_dir)
            again.start()
            # An answer to the lost future's exchange of the same number, sent again since nobody had acknowledged it.
            late = await ann.send(f"/v1/tasks/{lost.task}/answer", AnswerMessage(examples=examples, payload=data))
            assert (late.status_code, decode_message(Problem, late.content).reason) == (404, "task-not-found")
            await exchange(ann, bob)
            await without(ann, bob, zoe)
            for name, arrays in bob.parts.items():
                for key, array in arrays.items():
                    np.testing.assert_array_equal(zoe.parts[name][key], array)
            await exchange(bob, zoe)
            return [verdict for client in clients for verdict in client.verdicts]

    try:
        assert set(asyncio.run(play())) == {"accepted"}
        cohorts = [NAMES[:2]] * 3 + [NAMES[1:]] * 2
        expected = simulate(model(50), 0, cohorts, SETTINGS, ROUNDS, cohort=2)
        found = load(again.get(f"/v1/runs/{run}/model").content)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])
    finally:
        again.kill()


def test_a_backup_goes_into_an_empty_folder_and_comes_from_a_whole_one(served: Served, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    back_up(served.data_dir, copy)
    for source, target, do in ((served.data_dir, copy, back_up), (copy, served.data_dir, restore)):
        with pytest.raises(BackupError, match="not empty"):
            do(source, target)
    (copy / "thinwire.db").unlink()
    with pytest.raises(BackupError, match="no backup"):
        restore(copy, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_backup_in_one_file_is_the_folder(served: Served, tmp_path: Path) -> None:
    served.run(model(50))
    folder, file, again = tmp_path / "copy", tmp_path / "copy.tar", tmp_path / "deep" / "again"
    count = back_up(served.data_dir, folder)
    assert back_up(served.data_dir, file) == restore(file, again) == count > 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def objects(where: Path) -> dict[str, bytes]:
        found = [path for path in where.rglob("*") if path.is_file() and path.parent != where]
        return {str(path.relative_to(where)): path.read_bytes() for path in found}

    assert objects(again) == objects(folder)
    assert {path.name for path in again.iterdir()} == {path.name for path in folder.iterdir()}
    # Nothing is left beside them, also where it fails.
    with pytest.raises(BackupError, match="exists"):
        back_up(served.data_dir, file)
    data = bytearray(file.read_bytes())
    for damaged in (data[: len(data) // 2], b"no archive", data[:512]):
        (tmp_path / "damaged.tar").write_bytes(bytes(damaged))
        with pytest.raises(BackupError, match="backup"):
            restore(tmp_path / "damaged.tar", tmp_path / "new")
    with pytest.raises(BackupError, match="no backup"):
        restore(tmp_path / "nowhere.tar", tmp_path / "new")
    names = {path.name for path in tmp_path.iterdir() if path != served.data_dir}
    assert names == {"copy", "copy.tar", "damaged.tar", "deep"}


def test_objects_without_their_database_are_left_alone(served: Served) -> None:
    served.run(model(50))
    served.stop()
    names = sorted(path.name for path in (served.data_dir / "models").iterdir())
    for path in served.data_dir.glob("thinwire.db*"):
        path.unlink()
    with pytest.raises(AssertionError, match="is missing, but checkpoints and models of it are there"):
        served.start()
    served.process = None
    assert sorted(path.name for path in (served.data_dir / "models").iterdir()) == names
    assert not (served.data_dir / "thinwire.db").exists()


def test_a_run_whose_settings_cannot_be_read_is_shown_with_the_reason(served: Served) -> None:
    served.run(model(50), name="broken", cohort=1)
    served.run(model(50), name="whole", cohort=1)
    served.stop()
    with contextlib.closing(sqlite3.connect(served.data_dir / "thinwire.db")) as database, database:
        database.execute("UPDATE runs SET settings = json_set(settings, '$.cohort', 'all') WHERE name = 'broken'")
    served.start()
    views = {view["name"]: view for view in served.get("/v1/runs").json()["runs"]}
    assert views["whole"]["state"] == "pending"
    assert views["broken"]["state"] == "paused"
    assert "cannot read the run's settings: cohort" in views["broken"]["reason"]
    assert served.post("/v1/runs/broken/stop", {}).json()["outcome"] == "stopped"
