"""Who is who: durable first, then visible; what could not be stored has not happened and can be asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.serve.conftest import Play
from tests.serve.house import House
from thinwire.coordinator.objects.secret_files import operator_token
from thinwire.coordinator.serve.enrolment import Enrolment
from thinwire.coordinator.wire.identity import hash_of
from thinwire.protocol.messages import Enrolment as EnrolmentMessage
from thinwire.protocol.messages import InviteRequest
from thinwire.protocol.reasons import ProblemError

Stage = Callable[[Play], None]


async def reason(call: Awaitable[object]) -> str:
    with pytest.raises(ProblemError) as caught:
        await call
    return caught.value.reason


def wanted(invite: str, name: str | None = None) -> EnrolmentMessage:
    return EnrolmentMessage(invite=invite, name=name)


def test_who_enrols_is_known_by_its_token_alone(play: Stage) -> None:
    async def act(house: House) -> None:
        people = house.enrolment
        invite = (await people.invite(InviteRequest(group="ward", role="evaluator", uses=2))).invite
        enrolled = await people.enrol(wanted(invite))
        client = people.find(hash_of(enrolled.token))
        assert client is not None
        assert (client.name, client.group, client.role) == (enrolled.client, "ward", "evaluator")
        assert people.find(hash_of("x")) is None
        assert people.is_current(client)
        other = await people.enrol(wanted(invite))
        assert other.client != enrolled.client
        assert await reason(people.enrol(wanted(invite))) == "invite-invalid"
        assert await reason(people.enrol(wanted("unknown"))) == "invite-invalid"

    play(act)


def test_a_lost_answer_is_given_again_until_the_token_is_used(play: Stage) -> None:
    async def act(house: House) -> None:
        people = house.enrolment
        invite = (await people.invite(InviteRequest())).invite
        first = await people.enrol(wanted(invite, "ann"))
        again = await people.enrol(wanted(invite, "ann"))
        assert people.find(hash_of(first.token)) is None
        people.used("ann")
        assert await reason(people.enrol(wanted(invite, "ann"))) == "name-taken"
        # Likewise a token that was replaced.
        old = hash_of(again.token)
        second = await people.rotate("ann", old)
        third = await people.rotate("ann", old)
        assert people.find(hash_of(second.token)) is None
        people.used("ann")
        assert await reason(people.rotate("ann", old)) == "token-invalid"
        assert people.find(hash_of(third.token)) is not None
        assert house.ended == ["ann"] * 3

    play(act)


def test_a_request_doubled_on_the_way_takes_nothing_back(play: Stage) -> None:
    async def act(house: House) -> None:
        people = house.enrolment
        for name in ("ann", None):
            invite = (await people.invite(InviteRequest())).invite
            asked = EnrolmentMessage(invite=invite, name=name, nonce=bytes(16))
            first, second = await asyncio.gather(people.enrol(asked), people.enrol(asked))
            assert first == second
            assert people.find(hash_of(first.token)) is not None
            # Another nonce is somebody who never saw the answer.
            again = await people.enrol(asked.model_copy(update={"name": first.client, "nonce": b"1" * 16}))
            assert again.token != first.token
            assert people.find(hash_of(first.token)) is None
            old = hash_of(again.token)
            third, fourth = await asyncio.gather(*[people.rotate(first.client, old, b"2" * 16) for _ in range(2)])
            assert third == fourth
            assert people.find(hash_of(third.token)) is not None
            assert (await people.rotate(first.client, old, b"3" * 16)).token != third.token
            assert await reason(people.enrol(wanted(invite))) == "invite-invalid", "used once"

    play(act)


def test_a_token_is_replaced_by_who_has_it(play: Stage) -> None:
    async def act(house: House) -> None:
        people = house.enrolment
        await house.enrol("ann")
        bob = await house.enrol("bob")
        operator = hash_of(operator_token(house.folder))
        assert people.owner.is_owner(operator)
        assert not people.owner.is_owner(bob.token_hash)
        assert await reason(people.rotate("ann", None)) == "token-missing"
        assert await reason(people.rotate("ann", hash_of("x"))) == "token-invalid"
        assert await reason(people.rotate("ann", bob.token_hash)) == "not-allowed"
        assert await reason(people.rotate("ann", operator)) == "not-allowed"

    play(act)


def test_revocation_closes_tasks_and_can_be_repeated(play: Stage) -> None:
    async def act(house: House) -> None:
        people = house.enrolment
        invite = (await people.invite(InviteRequest(uses=2))).invite
        token = hash_of((await people.enrol(wanted(invite, "ann"))).token)
        client = people.find(token)
        assert client is not None
        await house.run()
        await house.exchange()
        task = await house.ask(client)
        with house.signals.subscribe("run:run001") as heard:
            await people.revoke("ann")
            assert await heard.wait() == {("run:run001", "client:ann")}
        assert people.find(token) is None
        assert (await house.tasks.get(task, "ann")).state == "late"
        assert house.ended == ["ann"]
        await people.revoke("ann", invite=True)
        assert await reason(people.enrol(wanted(invite, "bob"))) == "invite-invalid"
        assert await reason(people.revoke("nobody")) == "not-found"
        assert house.ended == ["ann"]

    play(act)


CHANGES: dict[str, Callable[[Enrolment, dict[str, Any]], Awaitable[object]]] = {
    "invite": lambda people, _: people.invite(InviteRequest()),
    "enrol": lambda people, known: people.enrol(wanted(known["invite"], "new")),
    "rotate": lambda people, known: people.rotate("ann", known["token"]),
    "revoke": lambda people, _: people.revoke("ann", invite=True),
    "rotate_operator": lambda people, _: people.owner.rotate(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_could_not_be_stored_has_not_happened(play: Stage, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """The disk is full; then there is room again."""

    async def act(house: House) -> None:
        people = house.enrolment
        invite = (await people.invite(InviteRequest(uses=2))).invite
        token = hash_of((await people.enrol(wanted(invite, "ann"))).token)
        known, operator = {"invite": invite, "token": token}, hash_of(operator_token(house.folder))

        async def full(*_: object, **__: object) -> None:
            raise ProblemError("storage-full")

        with monkeypatch.context() as patched:
            patched.setattr(house.database, "transaction", full)
            assert await reason(CHANGES[change](people, known)) == "storage-full"
        client = people.find(token)
        assert client is not None
        assert people.is_current(client)
        assert people.owner.is_owner(operator)
        assert hash_of(operator_token(house.folder)) == operator
        assert sorted(people.clients) == ["ann"]
        assert house.ended == []
        await CHANGES[change](people, known)
        assert people.owner.is_owner(operator) == (change != "rotate_operator")
        assert (people.find(token) is None) == (change in ("rotate", "revoke"))

    play(act)


def test_an_operators_token_that_cannot_be_written_stays(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(house: House) -> None:
        people, operator = house.enrolment, hash_of(operator_token(house.folder))
        (house.folder / "operator.token").unlink()
        (house.folder / "operator.token").mkdir()
        with pytest.raises(OSError, match=r"operator\.token|directory"):
            await people.owner.rotate()
        assert people.owner.is_owner(operator)
        (house.folder / "operator.token").rmdir()
        token = (await people.owner.rotate()).token
        assert people.owner.is_owner(hash_of(token))
        assert not people.owner.is_owner(operator)

    play(act)


def test_everybody_is_known_again_after_a_restart(tmp_path: Path) -> None:
    async def first() -> tuple[bytes, bytes, bytes]:
        async with House(tmp_path).open() as house:
            people = house.enrolment
            ann, bob = await house.enrol("ann"), await house.enrol("bob")
            people.used("ann")
            await people.save()
            await people.revoke("bob")
            return ann.token_hash, bob.token_hash, hash_of((await people.owner.rotate()).token)

    async def second(ann: bytes, bob: bytes, operator: bytes) -> None:
        async with House(tmp_path).open() as house:
            people = house.enrolment
            client = people.find(ann)
            assert client is not None
            assert client.seen
            assert people.find(bob) is None
            assert people.owner.is_owner(operator)
            assert sorted(people.clients) == ["ann", "bob"]

    asyncio.run(second(*asyncio.run(first())))


def test_what_another_process_changed_is_seen_when_it_says_so(play: Stage) -> None:
    async def act(house: House) -> None:
        people = house.enrolment
        ann = await house.enrol("ann")
        await house.clients.revoke("ann", house.now, invite=False)
        await house.clients.enrol("bob", *await an_invite(house), hash_of("bob's"), house.now, 10)
        for name in ("ann", "bob"):
            house.signals.publish("access", name)
        async with asyncio.timeout(60):
            while people.find(hash_of("bob's")) is None or people.find(ann.token_hash) is not None:
                await asyncio.sleep(0)
        assert house.ended == ["ann"]

    async def an_invite(house: House) -> tuple[bytes]:
        return (hash_of((await house.enrolment.invite(InviteRequest())).invite),)

    play(act)
