"""Registrations: who gets which task, when a poll ends, and what is told when there is nothing to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.serve.conftest import Play
from tests.serve.house import House, never, reason_of
from thinwire.coordinator.serve.presence import Presence
from thinwire.coordinator.serve.registrations import FinishedError
from thinwire.coordinator.wire.meter import Meter
from thinwire.protocol.messages import PartMessage, Registration, TaskMessage
from thinwire.protocol.reasons import ProblemError

Stage = Callable[[Play], None]


def test_a_waiting_poll_gets_its_task_when_it_is_asked(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()
        poll = asyncio.create_task(house.register(client))
        await house.until_parked(1)
        task = await house.ask(client)
        message = await poll
        assert message is not None
        assert (message.task, message.run, message.exchange, message.round) == (task, "run001", 0, 1)
        assert message.options == {"epochs": 2}
        assert message.parts == [PartMessage(form="full", inline=b"run001/0")]
        # The same whenever it asks; on another wire without its bytes.
        assert await house.register(client) == message
        plain = await house.register(client, inline=False)
        assert plain is not None
        assert plain.parts[0].inline is None
        assert plain.parts[0].size == 8

    play(act)


def test_of_two_processes_with_one_folder_the_former_is_told(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()

        async def asks(process: str | None) -> str:
            try:
                await house.registrations.next_task(
                    client, Registration(process=process), 0.0, inline=True, hung_up=never
                )
            except ProblemError as problem:
                return problem.reason
            return "waits"

        # One that ends and begins again, however often, is one client.
        assert [await asks(one) for one in ("first1", "first1", "second", "third1", "third1")] == ["waits"] * 5
        # A copy of its folder begins, and the other is still there.
        assert await asks("copied") == "waits"
        assert await asks("third1") == "client-doubled"
        assert [await asks(one) for one in ("copied", "fourth", "copied")] == ["waits", "waits", "client-doubled"]
        # Those that do not say what they are cannot be told apart.
        assert [await asks(None) for _ in range(2)] == ["waits"] * 2

    play(act)


def test_a_copy_of_a_folder_is_noticed_though_both_never_run_at_the_same_time(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()

        async def asks(process: str, start: int | None) -> str:
            # Another process of the coordinator, which has heard of nobody.
            presence = Presence(house.presence_rows, house.signals)
            try:
                await presence.begin(client.name, process, start)
            except ProblemError as problem:
                return problem.reason
            return "waits"

        # A process that is heard again, and one behind some that nobody has heard of.
        for process, start in (("first1", 1), ("first1", 1), ("second", 2), ("second", 2), ("fifth1", 5)):
            assert await asks(process, start) == "waits"
        # Copied when it had begun once; put back from then; and one as far along as the other.
        for process, start in (("copied", 2), ("copied", 3), ("fourth", 4), ("other1", 5)):
            assert await asks(process, start) == "client-doubled"
        assert [await asks(*one) for one in (("fifth1", 5), ("older1", None), ("sixth1", 6))] == ["waits"] * 3
        # Revoked and enrolled again, with whatever folder.
        await house.enrolment.revoke("ann")
        client = await house.enrol("ann")
        assert await asks("anew11", 1) == "waits"

    play(act)


def test_the_deadline_is_what_is_left(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()
        await house.ask(client)
        left = []
        for passed_s in (0.0, 10.0, 100.0):
            house.now += passed_s
            message = await house.register(client)
            assert message is not None
            left.append(message.deadline_s)
        assert left == [30.0, 20.0, 0.0]

    play(act)


@pytest.mark.parametrize(
    ("holds", "wanted"),
    [
        ({}, PartMessage(form="full", inline=b"full")),
        ({"run001": 0}, PartMessage(form="delta", inline=b"delta")),
        ({"run001": 1}, PartMessage(form="held")),
        ({"run001": 7}, PartMessage(form="full", inline=b"full")),
        ({"another1": 0}, PartMessage(form="full", inline=b"full")),
    ],
)
def test_what_a_client_holds_is_not_sent_again(play: Stage, holds: dict[str, int], wanted: PartMessage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()
        await house.close()
        await house.exchange(index=1, content=b"full", delta=b"delta")
        await house.ask(client, index=1)
        message = await house.register(client, holds=holds)
        assert message is not None
        assert message.parts == [wanted]

    play(act)


def test_a_private_part_comes_last_and_inline_where_nothing_else_is(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()
        await house.ask(client, private=b"alone")
        both = await house.register(client)
        held = await house.register(client, holds={"run001": 0})
        assert both is not None
        assert held is not None
        spec = {"p": ["float32", [1]]}
        assert both.parts[0].inline == b"run001/0"
        assert both.parts[1] == PartMessage(digest=house.put("run001", b"alone"), size=5, spec=spec)
        assert held.parts == [PartMessage(form="held"), PartMessage(inline=b"alone", spec=spec)]

    play(act)


def test_a_newer_poll_replaces_the_one_that_waits(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()
        first = asyncio.create_task(house.register(client))
        await house.until_parked(1)
        second = asyncio.create_task(house.register(client))
        assert await first is None
        assert house.presence.parked == 1
        assert not second.done()
        await house.ask(client)
        assert await second is not None
        assert house.presence.parked == 0

    play(act)


def test_a_run_that_goes_on_wakes_who_has_a_task_of_it(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()
        await house.ask(client)
        await house.runs.set_state(house.leases["run001"], "paused", "by the operator", house.now)
        poll = asyncio.create_task(house.register(client))
        await house.until_parked(1)
        assert not poll.done()
        await house.runs.set_state(house.leases["run001"], "running", None, house.now)
        house.signals.publish("group:default")
        assert await poll is not None

    play(act)


def test_when_all_runs_are_over_the_newest_names_its_model(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        stranger = await house.enrol("eve", group="others")
        await house.run("old001")
        await house.run("new001")
        poll = asyncio.create_task(house.register(client))
        await house.until_parked(1)
        await house.finish("new001", b"m" * 32)
        await house.finish("old001", b"o" * 32)
        with pytest.raises(FinishedError) as caught:
            await poll
        assert caught.value.model == b"o" * 32
        # It ends; should it go on, it is there from its next poll on.
        await house.presence.save()
        assert await house.presence_rows.present("default", None, ["client"], 0.0) == set()
        # Where there is no run at all one may begin.
        assert await house.register(stranger, 0) is None

    play(act)


def test_another_model_is_a_mismatch(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run(spec=b"s" * 8)
        with pytest.raises(ProblemError) as caught:
            await house.register(client, spec=b"x" * 8)
        assert caught.value.reason == "model-mismatch"
        assert await house.register(client, 0, spec=b"s" * 8) is None
        assert await house.register(client, 0) is None

    play(act)


@pytest.mark.parametrize("how", ["revoked", "rotated"])
def test_a_token_that_ends_ends_the_poll(play: Stage, how: str) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()
        poll = asyncio.create_task(house.register(client))
        await house.until_parked(1)
        if how == "revoked":
            await house.enrolment.revoke("ann")
        else:
            await house.enrolment.rotate("ann", client.token_hash)
        with pytest.raises(ProblemError) as caught:
            await poll
        assert reason_of(caught.value) == "token-invalid"
        assert house.ended == ["ann"]

    play(act)


def test_who_hangs_up_is_gone_until_heard_again(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        hung_up = asyncio.Event()

        async def until_hung_up() -> None:
            await hung_up.wait()

        poll = asyncio.create_task(
            house.registrations.next_task(client, Registration(), 60.0, inline=True, hung_up=until_hung_up)
        )
        await house.until_parked(1)
        roles = ["client"]

        async def present() -> set[str]:
            return await house.presence_rows.present("default", None, roles, house.now - 10)  # type: ignore[arg-type]

        assert await present() == {"ann"}
        hung_up.set()
        assert await poll is None
        assert await present() == set()
        house.presence.touch("ann")
        await house.presence.save()
        assert await present() == {"ann"}
        # Whoever left in peace is there for a while.
        house.now += 5
        assert await house.register(client, 0) is None
        await house.presence.save()
        assert await present() == {"ann"}
        house.now += 11
        assert await present() == set()

    play(act)


def test_with_its_last_connection_a_client_is_gone(play: Stage) -> None:
    async def act(house: House) -> None:
        for name in ("ann", "bob"):
            await house.register(await house.enrol(name), 0)
        lines = [Meter(house.ledger, lambda: None) for _ in range(3)]

        async def present() -> list[str]:
            if house.presence._saving is not None:
                await house.presence._saving
            await house.presence.save()
            return sorted(await house.presence_rows.present("default", None, ["client"], house.now - 10))

        for line in lines[:2]:
            house.presence.touch("ann", line)
        house.presence.touch("bob", lines[2])
        lines[0].lost()
        assert await present() == ["ann", "bob"], "one of two"
        house.presence.touch("ann", lines[2])  # of a proxy, which carries another client now
        lines[1].lost()
        assert await present() == ["ann", "bob"]
        with house.presence.park("ann"):
            lines[2].lost()
            assert await present() == ["ann", "bob"], "its poll hears whether it is there"
        house.presence.touch("ann", (last := Meter(house.ledger, lambda: None)))
        last.lost()
        assert await present() == ["bob"]
        house.presence.touch("ann", (announced := Meter(house.ledger, lambda: None)))
        announced.lost(announced=True)  # as a proxy ends every one
        assert await present() == ["ann", "bob"], "heard again"

    play(act)


def test_polls_end_when_the_process_does(play: Stage) -> None:
    async def act(house: House) -> None:
        clients = [await house.enrol(name) for name in ("ann", "bob")]
        await house.run()
        polls = [asyncio.create_task(house.register(client)) for client in clients]
        await house.until_parked(2)
        house.registrations.stop()
        assert await asyncio.gather(*polls) == [None, None]
        assert await house.register(clients[0]) is None

    play(act)


def test_the_next_task_rides_on_an_answer_and_holds_its_parts(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()
        await house.ask(client)
        message = await house.register(client)
        assert message is not None
        facts = await house.book.find(message.task, "ann")
        await house.close()
        riding = asyncio.create_task(house.registrations.following(client, facts, inline=True))
        await house.exchange(index=1, content=b"full", delta=b"delta")
        await house.ask(client, index=1)
        following = await riding
        assert following is not None
        assert following.parts == [PartMessage(form="delta", inline=b"delta")]
        await house.finish()
        assert await house.registrations.following(client, facts, inline=True) is None

    play(act)


def test_an_answer_waits_for_the_next_task_as_a_poll_does(play: Stage) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()
        await house.ask(client)
        message = await house.register(client)
        assert message is not None
        facts = await house.book.find(message.task, "ann")
        await house.close()

        def waiting(wait_s: float, hung_up: asyncio.Event) -> asyncio.Task[TaskMessage | None]:
            return asyncio.create_task(
                house.registrations.following(client, facts, wait_s, inline=True, hung_up=hung_up.wait)  # type: ignore[arg-type]
            )

        with house.signals.subscribe("polls:default") as heard:
            rests = waiting(600.0, asyncio.Event())
            await heard.wait()
        # The leader sees it as one that polls, with the parts of the task that it has answered.
        assert house.presence.parked == 1
        await house.exchange(index=1, content=b"full", delta=b"delta")
        await house.ask(client, index=1)
        following = await rests
        assert following is not None
        assert following.parts == [PartMessage(form="delta", inline=b"delta")]
        await house.close(index=1)
        gone = asyncio.Event()
        with house.signals.subscribe("polls:default") as heard:
            cut = waiting(600.0, gone)
            await heard.wait()
        gone.set()
        assert await cut is None
        assert house.presence.parked == 0
        with house.signals.subscribe("polls:default") as heard:
            ends = waiting(600.0, asyncio.Event())
            await heard.wait()
        await house.finish()
        assert await ends is None

    play(act)


def test_a_full_disk_keeps_nobody_from_a_task_that_is_open(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()

        async def full(*_: object, **__: object) -> None:
            raise ProblemError("storage-full")

        monkeypatch.setattr(house.database, "transaction", full)
        with pytest.raises(ProblemError) as caught:
            await house.register(client)
        assert caught.value.reason == "storage-full"
        monkeypatch.undo()
        await house.ask(client)
        monkeypatch.setattr(house.database, "transaction", full)
        message = await house.register(client)
        assert message is not None
        facts = await house.book.find(message.task, "ann")
        following = await house.registrations.following(client, facts, inline=True)
        assert following is not None
        assert following.task == message.task

    play(act)
