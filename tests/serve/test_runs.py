"""Runs as operators handle them: made, commanded, read; their models as they stand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from tests.coordinator.served import model as arrays_of  # puts the toy method on its path
from tests.serve.conftest import Play
from tests.serve.house import House
from thinwire.coordinator.objects.objects import checkpoint, payload
from thinwire.coordinator.objects.states import put_state, read_state
from thinwire.coordinator.runs.rows import RunRow
from thinwire.coordinator.serve.models import CurrentModel, FinalModel, Take
from thinwire.methods.model_file import model_bytes, read_arrays
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import AnswerMessage, RunRequest
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

Stage = Callable[[Play], None]
MODEL = model_bytes(arrays_of(100))
DIGEST = hashlib.sha256(MODEL).digest()


async def reason(call: Awaitable[object]) -> str:
    with pytest.raises(ProblemError) as caught:
        await call
    return caught.value.reason


def in_pieces(data: bytes, size: int = 64) -> Callable[[Take], Awaitable[None]]:
    async def receive(take: Take) -> None:
        for begins in range(0, len(data), size):
            take(data[begins : begins + size])
            await asyncio.sleep(0)

    return receive


async def created(house: House, name: str = "toys", **settings: object) -> RunRow:
    """A run of the toy method."""
    await house.models.store(in_pieces(MODEL))
    wanted = RunSettings.model_validate({"name": name, "method": "toy", "rounds": 2, **settings})
    return await house.commands.create_run(RunRequest(settings=wanted, model=DIGEST))


def test_a_model_is_stored_by_its_digest_or_not_at_all(play: Stage) -> None:
    async def act(house: House) -> None:
        for _ in range(2):  # the same again is the same
            stored = await house.models.store(in_pieces(MODEL))
            assert stored.digest == DIGEST
            assert stored.parameters == sum(array.size for array in arrays_of(100).values())
        assert house.objects.names("models") == [f"models/{DIGEST.hex()}"]
        assert await reason(house.models.store(in_pieces(b"not a model"))) == "run-invalid"
        assert await reason(house.models.store(in_pieces(bytes(2 << 20), 1 << 18))) == "message-too-large"

        async def cut(take: Take) -> None:
            take(MODEL[:50])
            raise ProblemError("bad-request")

        assert await reason(house.models.store(cut)) == "bad-request"
        assert house.objects.names("models") == [f"models/{DIGEST.hex()}"]
        assert house.partials.ids() == set()

    play(act)


def test_a_run_is_made_with_its_first_checkpoint_or_leaves_nothing(play: Stage) -> None:
    async def act(house: House) -> None:
        with house.signals.subscribe("runs", "group:default") as heard:
            row = await created(house)
            assert await heard.wait() == {("runs", row.id), ("group:default", row.id)}
        assert (row.name, row.state, row.exchange) == ("toys", "pending", 0)
        assert read_state(house.objects, row.id, 0).round == row.round
        assert await reason(created(house)) == "run-exists"
        assert await reason(created(house, "wrong", uplink="gzip")) == "run-invalid"
        unknown = RunRequest(settings=RunSettings.model_validate({"name": "x", "method": "toy"}), model=bytes(32))
        assert await reason(house.commands.create_run(unknown)) == "run-invalid"
        await created(house, "second")
        await created(house, "third")
        assert await reason(created(house, "one-too-many")) == "too-many-requests"
        assert len(house.objects.names("checkpoints")) == 3

    play(act)


def test_two_runs_made_at_once_cannot_share_a_name(play: Stage) -> None:
    async def act(house: House) -> None:
        told = await asyncio.gather(created(house), created(house), return_exceptions=True)
        assert sorted(type(one).__name__ for one in told) == ["ProblemError", "RunRow"]
        assert len(house.objects.names("checkpoints")) == 1

    play(act)


def test_a_command_is_told_when_it_has_been_carried_out(play: Stage) -> None:
    async def act(house: House) -> None:
        await house.run()
        lease = house.leases["run001"]

        async def obey() -> None:
            with house.signals.subscribe("run:run001") as heard:
                while True:
                    await heard.wait()
                    command = (await house.runs.get("run001")).command
                    if command is not None:
                        state = "running" if command == "resume" else "paused"
                        await house.runs.set_state(lease, state, None, house.now, obeyed=command)  # type: ignore[arg-type]
                        house.signals.publish("events:run001")

        obeying = asyncio.create_task(obey())
        await asyncio.sleep(0)
        assert (await house.commands.command("run001", "pause")).state == "paused"
        assert await reason(house.commands.command("run001", "pause")) == "run-state"
        assert (await house.commands.command("run001", "resume")).state == "running"
        assert await reason(house.commands.command("run001", "resume")) == "run-state"
        assert await reason(house.commands.command("nothing", "stop")) == "run-not-found"
        obeying.cancel()
        # An open exchange is finished first: nobody waits for that; one that is dropped is.
        await house.exchange()
        row = await house.commands.command("run001", "pause")
        assert (row.state, row.command) == ("running", "pause")

    play(act)


def test_a_damaged_run_that_stays_so_says_why(play: Stage) -> None:
    async def act(house: House) -> None:
        await house.run()
        lease = house.leases["run001"]
        why = "storage-failed: checkpoints/run001/0 is torn"
        await house.runs.set_state(lease, "paused", why, house.now, damaged=True)

        async def still_damaged() -> None:
            with house.signals.subscribe("run:run001") as heard:
                await heard.wait()
                await house.runs.set_state(lease, "paused", why, house.now, damaged=True, obeyed="resume")
                house.signals.publish("events:run001")

        obeying = asyncio.create_task(still_damaged())
        await asyncio.sleep(0)
        with pytest.raises(ProblemError) as caught:
            await house.commands.command("run001", "resume")
        assert (caught.value.reason, caught.value.detail) == ("storage-failed", why)
        await obeying
        assert await reason(house.models.as_it_stands("run001")) == "storage-failed"

    play(act)


def test_the_model_of_a_run_that_goes_on_is_its_checkpoints(play: Stage) -> None:
    """With the order of its arrays, by which methods cut models."""

    async def act(house: House) -> None:
        row = await created(house)
        found = await house.models.as_it_stands(row.id)
        assert isinstance(found, CurrentModel)
        assert found.digest == hashlib.sha256(found.data).digest()
        path = house.folder / "pulled"
        path.write_bytes(found.data)
        pulled, given = read_arrays(path), arrays_of(100)
        assert list(pulled) == list(given)
        for name, array in given.items():
            np.testing.assert_array_equal(pulled[name], array)

    play(act)


def test_the_final_model_is_made_again_or_not_given(play: Stage) -> None:
    async def act(house: House) -> None:
        row = await created(house)
        lease = await house._leases.acquire(row.id, "by hand", None)
        assert lease is not None
        house.leases[row.id] = lease
        definition = house.models._definitions.of(row)
        arrays = definition.server.model(read_state(house.objects, row.id, 0))
        assert arrays is not None
        digest = house.put(row.id, model_bytes(arrays))
        await house.finish(row.id, digest)
        stored = house.objects.local(payload(row.id, digest))
        whole = stored.read_bytes()
        stored.write_bytes(whole[:-1])
        found = await house.models.as_it_stands(row.id)
        assert found == FinalModel(stored, digest)
        assert stored.read_bytes() == whole
        # Looked at once; the next process looks again, and finds neither it nor what it came from.
        house.models._whole.clear()
        stored.write_bytes(whole[:-1])
        house.objects.delete([checkpoint(row.id, 0)])
        with pytest.raises(ProblemError) as caught:
            await house.models.as_it_stands(row.id)
        assert "is damaged" in caught.value.detail
        put_state(house.objects, row.id, 0, definition.first_state(arrays_of(100)))
        assert await house.models.as_it_stands(row.id) == FinalModel(stored, digest)

    play(act)


def test_a_run_without_a_model_says_so(play: Stage) -> None:
    async def act(house: House) -> None:
        row = await created(house)
        lease = await house._leases.acquire(row.id, "by hand", None)
        assert lease is not None
        house.leases[row.id] = lease
        await house.finish(row.id)
        assert await reason(house.models.as_it_stands(row.id)) == "no-global-model"
        assert await reason(house.models.as_it_stands("nothing")) == "run-not-found"

    play(act)


def test_a_run_says_whom_it_waits_for(play: Stage) -> None:
    async def act(house: House) -> None:
        ann, bob = await house.enrol("ann"), await house.enrol("bob")
        await house.run()
        assert (await house.reads.run("run001")).waits_for == []
        await house.exchange()
        await house.ask(bob)
        task = await house.ask(ann)
        assert (await house.reads.run("run001")).waits_for == ["ann", "bob"]
        async with house.deciding():
            await house.answers.answer("ann", task, AnswerMessage(examples=1))
        assert (await house.reads.run("run001")).waits_for == ["bob"]
        await house.finish()
        assert (await house.reads.run("run001")).waits_for is None

    play(act)


def test_metrics_have_the_bytes_of_each_exchange_and_of_all_before(play: Stage) -> None:
    async def act(house: House) -> None:
        await house.run()
        for index in range(3):
            house.ledger.record(("run001", "ann", index, "answer"), Bytes(1, 10**index, 0, 0, 2 * 10**index))
            await house.exchange(index=index)
            await house.close(index=index)
        house.ledger.record(("run001", "ann", None, "other"), Bytes(1, 5000, 0, 0, 5000))
        metrics = [one async for block in (await house.reads.metrics("run001")).blocks for one in block]
        assert [one.uplink_bytes for one in metrics] == [1, 10, 100]
        assert [one.downlink_bytes for one in metrics] == [2, 20, 200]
        assert [one.uplink_bytes_before for one in metrics] == [0, 1, 11]
        assert [await house.reads.exchange("run001", index) for index in range(4)] == [*metrics, None]
        assert await house.reads.find("run001") == await house.runs.get("run001")

    play(act)


def test_clients_are_shown_with_when_they_were_heard(play: Stage) -> None:
    async def act(house: House) -> None:
        await house.enrol("bob", group="ward")
        ann = await house.enrol("ann")
        assert await house.register(ann, 0) is None
        house.now += 10
        house.presence.touch("ann")  # not written yet
        views = (await house.reads.clients()).clients
        assert [(one.client, one.group, one.seen_at) for one in views] == [
            ("ann", "default", house.now),
            ("bob", "ward", None),
        ]

    play(act)


def test_a_run_whose_method_is_unknown_is_shown(play: Stage) -> None:
    async def act(house: House) -> None:
        await house.run(method="gone")
        (view,) = (await house.reads.runs()).runs
        assert (view.method, view.state) == ("gone", "running")

    play(act)
