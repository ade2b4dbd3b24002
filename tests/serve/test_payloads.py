"""Payloads: who may have which, and that nobody has what is nobody's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.serve.conftest import Play
from tests.serve.house import House
from thinwire.protocol.reasons import ProblemError

Stage = Callable[[Play], None]


async def reason(call: Awaitable[object]) -> str:
    with pytest.raises(ProblemError) as caught:
        await call
    return caught.value.reason


def test_a_runs_payloads_are_its_groups(play: Stage) -> None:
    async def act(house: House) -> None:
        ann, eve = await house.enrol("ann"), await house.enrol("eve", group="others")
        await house.run()
        row = await house.exchange(content=b"part")
        part, plan = house.put("run001", b"part"), row.plan
        found = await house.payloads.payload(part, ann)
        assert (found.path.read_bytes(), found.run, found.exchange, found.public) == (b"part", "run001", 0, False)
        assert (await house.payloads.plan(plan, ann)).path.read_bytes() == b"the plan"
        assert await reason(house.payloads.payload(part, eve)) == "payload-not-found"
        assert await reason(house.payloads.plan(plan, eve)) == "plan-not-found"
        # A plan is no payload, and a payload no plan.
        assert await reason(house.payloads.payload(plan, ann)) == "payload-not-found"
        assert await reason(house.payloads.plan(part, ann)) == "plan-not-found"
        assert await house.payloads.public(part) is None

    play(act)


def test_public_payloads_are_anybodys_but_private_ones_are_one_clients(play: Stage) -> None:
    async def act(house: House) -> None:
        ann, bob = await house.enrol("ann"), await house.enrol("bob")
        eve = await house.enrol("eve", group="others")
        await house.run(payloads="public")
        row = await house.exchange(content=b"part")
        await house.ask(ann, private=b"alone")
        part, alone = house.put("run001", b"part"), house.put("run001", b"alone")
        found = await house.payloads.public(part)
        assert found is not None
        assert found.public
        assert (await house.payloads.payload(part, eve)).public
        assert (await house.payloads.payload(alone, ann)).path.read_bytes() == b"alone"
        for client in (bob, eve):
            assert await reason(house.payloads.payload(alone, client)) == "payload-not-found"
        for secret in (alone, row.plan):
            assert await house.payloads.public(secret) is None

    play(act)


def test_what_no_exchange_names_any_more_is_not_found(play: Stage) -> None:
    async def act(house: House) -> None:
        ann = await house.enrol("ann")
        await house.run()
        for index in range(3):
            await house.exchange(index=index, content=b"part %d" % index)
            if index < 2:
                await house.close(index=index)
        parts = [house.put("run001", b"part %d" % index) for index in range(3)]
        assert await reason(house.payloads.payload(parts[0], ann)) == "payload-not-found"
        assert [(await house.payloads.payload(part, ann)).exchange for part in parts[1:]] == [1, 2]
        # Named, and lost.
        house.objects.delete([f"payloads/run001/{parts[2].hex()}"])
        assert await reason(house.payloads.payload(parts[2], ann)) == "payload-not-found"

    play(act)


def test_a_payload_of_two_runs_belongs_to_the_one_that_asked(play: Stage) -> None:
    async def act(house: House) -> None:
        ann, bob = await house.enrol("ann"), await house.enrol("bob")
        for run in ("run001", "run002"):
            await house.run(run)
            await house.exchange(run, content=b"part")
        await house.ask(ann, "run001")
        part = house.put("run001", b"part")
        assert (await house.payloads.payload(part, ann)).run == "run001"
        assert (await house.payloads.payload(part, bob)).run == "run002"

    play(act)
