"""Answers: kept once, told to whoever decides, and what was decided told to their clients, however often they ask."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import pytest

from tests.serve.asking import asking, token_of
from tests.serve.conftest import Play
from tests.serve.house import House, reason_of
from thinwire.coordinator.objects.objects import answer
from thinwire.coordinator.records.clients import Client
from thinwire.coordinator.serve import answers as module
from thinwire.coordinator.wire.accounting import Account
from thinwire.protocol.encoding import MSGPACK, decode_message, encode_message
from thinwire.protocol.messages import AnswerMessage, VerdictMessage
from thinwire.protocol.reasons import ProblemError

Stage = Callable[[Play], None]
ANSWER = AnswerMessage(examples=3, metrics={"loss": 0.5}, payload=b"arrays", link=(100, 200))


async def asked(house: House, *names: str) -> tuple[list[Client], list[str]]:
    """Clients with open tasks."""
    clients = [await house.enrol(name) for name in names]
    await house.run()
    await house.exchange()
    return clients, [await house.ask(client) for client in clients]


async def uploaded(house: House, client: str, task: str, data: bytes, digest: bytes | None = None) -> str:
    """The id of a complete upload."""
    facts = await house.book.find(task, client)
    upload = await house.uploads.create(facts, len(data), digest or hashlib.sha256(data).digest())
    with house.uploads.reading(upload) as reader:
        reader.append(data)
    return upload.id


def test_an_answer_is_accepted_once_and_then_a_duplicate(play: Stage) -> None:
    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        async with house.deciding() as decided:
            assert await house.answers.answer("ann", task, ANSWER) == "accepted"
            for payload in (ANSWER, AnswerMessage(examples=9, payload=b"others")):
                assert await house.answers.answer("ann", task, payload) == "duplicate"
        assert decided == [task]
        (row,) = await house.answer_rows.accepted("run001", 0)
        assert (row.examples, row.metrics, row.size) == (3, {"loss": 0.5}, 6)
        assert row.digest == hashlib.sha256(b"arrays").digest()
        assert house.objects.local(answer(task)).read_bytes() == b"arrays"
        for key, value in Account(kind="answer", run="run001", client="ann", exchange=0).split(10, 20, 0.0):
            house.ledger.record(key, value)
        (link,) = await house.ledger.links("run001")
        assert (link.sent_bytes, link.received_bytes) == (100, 200)

    play(act)


def test_asked_many_times_at_once_it_arrives_once(play: Stage) -> None:
    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        async with house.deciding() as decided:
            verdicts = await asyncio.gather(*(house.answers.answer("ann", task, ANSWER) for _ in range(10)))
        assert set(verdicts) == {"accepted"}  # all of them waited for the check
        assert decided == [task]
        assert len(await house.answer_rows.accepted("run001", 0)) == 1

    play(act)


def test_while_it_is_checked_it_is_not_known_and_later_accepted(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_S", 0.01)

    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        # Nobody decides.
        assert await house.answers.answer("ann", task, ANSWER) is None
        assert await house.answers.answer("ann", task, ANSWER) is None
        await house.answers.close()  # what is being stored is stored
        assert len(await house.answer_rows.undecided("run001", 0)) == 1
        await house.decide(task, "accepted")
        assert await house.answers.answer("ann", task, ANSWER) == "accepted"
        assert await house.answers.answer("ann", task, ANSWER) == "duplicate"

    play(act)


NAMED = AnswerMessage(examples=3, metrics={"loss": 0.5}, received=hashlib.sha256(b"arrays").digest())


@pytest.mark.parametrize("slow", ["put", "arrive", "verdict"])
def test_no_payload_crosses_twice_however_long_it_is_checked(
    slow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever takes its time: storing, noting, or deciding. The client asks ten times meanwhile, and hears of the
    verdict for the first time after that.
    """
    monkeypatch.setattr(module, "CHECK_S", 0.01)

    async def act() -> None:
        async with House(tmp_path).open() as house, asking(house) as http:
            ann, who = await token_of(house, "ann")
            await house.run()
            await house.exchange()
            task = await house.ask(ann)
            go_on = Gate(house, monkeypatch, slow)

            async def post(message: AnswerMessage) -> httpx.Response:
                headers = who | {"content-type": MSGPACK, "accept": MSGPACK}
                return await http.post(f"/v1/tasks/{task}/answer", content=encode_message(message), headers=headers)

            assert (await post(ANSWER)).status_code == 202
            for _ in range(10):
                assert (await post(NAMED)).status_code == 202
            go_on()
            await house.answers.close()
            assert len(await house.answer_rows.undecided("run001", 0)) == 1
            await house.decide(task, "accepted")
            for verdict in ("accepted", "duplicate"):
                reply = await post(NAMED)
                assert decode_message(VerdictMessage, reply.content).verdict == verdict
            (row,) = [row async for block in (await house.ledger.rows("run001")).blocks for row in block]
            assert (row.requests, row.uplink_payload_bytes) == (13, len(b"arrays"))

    asyncio.run(act())


class Gate:
    """Lets nothing through before it is called."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        self._open = threading.Event()
        if where == "put":
            self._call: Callable[..., object] = house.objects.put
            monkeypatch.setattr(house.objects, "put", self._behind)
        elif where == "arrive":
            self._call = house.database._commit
            monkeypatch.setattr(house.database, "_commit", self._behind)

    def __call__(self) -> None:
        self._open.set()

    def _behind(self, *args: object, **also: object) -> object:
        assert self._open.wait(60)
        return self._call(*args, **also)


def test_an_answer_that_has_not_arrived_is_sent(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ARRIVES_S", 0.01)

    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        for message in (NAMED, AnswerMessage(examples=3, received=hashlib.sha256(b"others").digest())):
            with pytest.raises(ProblemError) as caught:
                await house.answers.answer("ann", task, message)
            assert caught.value.reason == "answer-not-found"
            monkeypatch.setattr(module, "CHECK_S", 0.01)
            assert await house.answers.answer("ann", task, ANSWER) is None
            await house.answers.close()
        assert await house.answers.answer("ann", task, NAMED) is None
        await house.answer_rows.withdraw(task)  # what lies on the disk is damaged, say
        with pytest.raises(ProblemError):
            await house.answers.answer("ann", task, NAMED)
        await house.decide(task, "late")
        assert await house.answers.answer("ann", task, NAMED) == "late"

    play(act)


def test_a_question_that_overtakes_its_answer_waits_for_it(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent over a connection that then broke, it is read after the next connection's first request."""
    monkeypatch.setattr(module, "ARRIVES_S", 60.0)

    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        async with house.deciding() as decided:
            question = asyncio.create_task(house.answers.answer("ann", task, NAMED))
            async with asyncio.timeout(60):
                while task not in house.answers._expected:
                    await asyncio.sleep(0)
            assert await house.answers.answer("ann", task, ANSWER) == "accepted"
            assert await question == "accepted"
            assert decided == [task]

    play(act)


def test_where_nobody_decides_the_answer_is_given_up(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged run waits for its operator; its client is not to send the same again and again meanwhile."""
    monkeypatch.setattr(module, "CHECK_S", 0.01)

    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        await house.runs.set_state(house.leases["run001"], "paused", "storage-failed: torn", house.now, damaged=True)
        for _ in range(2):
            while (found := await house.answers.answer("ann", task, ANSWER)) is None:
                await house.answers.close()  # it was still being stored
            assert found == "late"
        assert await house.answer_rows.undecided("run001", 0) == []
        assert house.objects.names("answers") == []
        await house.runs.set_state(house.leases["run001"], "running", None, house.now, damaged=False)
        async with house.deciding():
            monkeypatch.setattr(module, "CHECK_S", 60.0)
            assert await house.answers.answer("ann", task, ANSWER) == "accepted"

    play(act)


def test_a_refusal_is_told_in_the_same_words_again(play: Stage) -> None:
    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        async with house.deciding(state="refused"):
            for _ in range(2):
                with pytest.raises(ProblemError) as caught:
                    await house.answers.answer("ann", task, ANSWER)
                assert (caught.value.reason, caught.value.detail) == ("payload-invalid", "it is payload-invalid")

    play(act)


def test_what_comes_too_late_is_late_and_leaves_nothing(play: Stage) -> None:
    async def act(house: House) -> None:
        _, (before, meanwhile) = await asked(house, "ann", "bob")
        await house.decide(before, "late")
        assert await house.answers.answer("ann", before, ANSWER) == "late"
        async with house.deciding(state="late"):
            assert await house.answers.answer("bob", meanwhile, ANSWER) == "late"
        await house.close()
        assert await house.answers.answer("ann", before, ANSWER) == "late"
        assert house.objects.names(f"answers/{before}") == []

    play(act)


def test_nobody_answers_or_declines_for_another(play: Stage) -> None:
    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        await house.enrol("eve")
        for call in (house.answers.answer("eve", task, ANSWER), house.answers.decline("eve", task, "why")):
            with pytest.raises(ProblemError) as caught:
                await call
            assert reason_of(caught.value) == "task-not-found"
        with pytest.raises(ProblemError):
            await house.answers.answer("ann", "nothing", ANSWER)
        assert house.objects.names("answers") == []

    play(act)


def test_a_declined_task_is_late_and_an_answered_one_stays(play: Stage) -> None:
    async def act(house: House) -> None:
        _, (given_up, answered) = await asked(house, "ann", "bob")
        with house.signals.subscribe("run:run001") as heard:
            for _ in range(2):
                await house.answers.decline("ann", given_up, "no memory")
            assert await heard.wait() == {("run:run001", f"task:{given_up}")}
        row = await house.tasks.get(given_up, "ann")
        assert (row.state, row.reason, row.detail) == ("late", "declined", "no memory")
        async with house.deciding():
            answering = asyncio.create_task(house.answers.answer("bob", answered, ANSWER))
            await house.answers.decline("bob", answered, "why")  # before or while it arrives
            assert await answering in ("accepted", "late")
            await house.answers.decline("bob", answered, "why")
        assert await house.answers.answer("bob", answered, ANSWER) == await answered_again(house, answered)

    async def answered_again(house: House, task: str) -> str:
        state = (await house.tasks.get(task, "bob")).state
        return "duplicate" if state == "accepted" else "late"

    play(act)


class Failing:
    """Fails a number of times with what a full disk says, then does what it did before."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        self.house, self.left = house, 0
        target, name = (house.objects, where) if where in ("put", "take") else (house.answer_rows, where)
        self._call = getattr(target, name)
        monkeypatch.setattr(target, name, self._sync if target is house.objects else self._async)

    def _fails(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def _sync(self, *args: object, **also: object) -> object:
        if self._fails():
            raise OSError(28, "No space left on device")
        return self._call(*args, **also)

    async def _async(self, *args: object, **also: object) -> object:
        if self._fails():
            raise ProblemError("storage-full")
        return await self._call(*args, **also)


@pytest.mark.parametrize("where", ["put", "arrive"])
@pytest.mark.parametrize("through", ["inline", "upload"])
def test_what_cannot_be_stored_leaves_nothing_and_can_be_sent_again(
    play: Stage, monkeypatch: pytest.MonkeyPatch, where: str, through: str
) -> None:
    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        message = ANSWER
        if through == "upload":
            where_ = "take" if where == "put" else where
            message = AnswerMessage(examples=3, upload=await uploaded(house, "ann", task, b"arrays"))
        else:
            where_ = where
        failing = Failing(house, monkeypatch, where_)
        async with house.deciding() as decided:
            failing.left = 2
            for _ in range(2):
                with pytest.raises(ProblemError) as caught:
                    await house.answers.answer("ann", task, message)
                assert caught.value.reason == "storage-full"
                assert "storage-full" in house.troubles.of("run001")[0]
                assert await house.answer_rows.undecided("run001", 0) == []
                assert through == "upload" or house.objects.names("answers") == []
            assert await house.answers.answer("ann", task, message) == "accepted"
            assert decided == [task]
        assert house.troubles.of("run001") == []
        assert house.objects.local(answer(task)).read_bytes() == b"arrays"
        assert house.partials.ids() == set()
        assert await house.upload_rows.all() == []

    play(act)


def test_what_a_dead_process_stored_and_did_not_note_is_replaced(play: Stage) -> None:
    async def act(house: House) -> None:
        _, tasks = await asked(house, "ann", "bob")
        for task in tasks:
            house.objects.put(answer(task), b"half-written", durable=False)
        messages = {
            "ann": ANSWER,
            "bob": AnswerMessage(examples=3, upload=await uploaded(house, "bob", tasks[1], b"arrays")),
        }
        async with house.deciding():
            for (name, message), task in zip(messages.items(), tasks, strict=True):
                assert await house.answers.answer(name, task, message) == "accepted"
                assert house.objects.local(answer(task)).read_bytes() == b"arrays"

    play(act)


def test_an_upload_that_is_not_what_was_announced_is_forgotten(play: Stage) -> None:
    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        forged = await uploaded(house, "ann", task, b"forged", hashlib.sha256(b"arrays").digest())
        for wanted in ("digest-mismatch", "upload-not-found"):
            with pytest.raises(ProblemError) as caught:
                await house.answers.answer("ann", task, AnswerMessage(examples=1, upload=forged))
            assert caught.value.reason == wanted
        assert await house.answer_rows.undecided("run001", 0) == []
        async with house.deciding():
            whole = await uploaded(house, "ann", task, b"arrays")
            message = AnswerMessage(examples=1, upload=whole)
            assert await house.answers.answer("ann", task, message) == "accepted"
            assert await house.answers.answer("ann", task, message) == "duplicate"

    play(act)


def test_an_upload_is_answered_with_when_it_is_complete_and_for_its_task_alone(play: Stage) -> None:
    async def act(house: House) -> None:
        _, (task, other) = await asked(house, "ann", "bob")
        facts = await house.book.find(task, "ann")
        upload = await house.uploads.create(facts, 6, hashlib.sha256(b"arrays").digest())
        with house.uploads.reading(upload) as reader:
            reader.append(b"arr")
        for client, of, reason in (("ann", task, "upload-incomplete"), ("bob", other, "upload-not-found")):
            with pytest.raises(ProblemError) as caught:
                await house.answers.answer(client, of, AnswerMessage(examples=1, upload=upload.id))
            assert caught.value.reason == reason
        assert house.uploads.find(upload.id, "ann").offset == 3

    play(act)


def test_who_asked_may_go_while_it_arrives(play: Stage) -> None:
    async def act(house: House) -> None:
        _, (task,) = await asked(house, "ann")
        with house.signals.subscribe("run:run001") as heard:
            asking = asyncio.create_task(house.answers.answer("ann", task, ANSWER))
            await until(lambda: names_of(house), "arriving")
            asking.cancel()
            assert await heard.wait() == {("run:run001", f"answer:{task}")}
        assert len(await house.answer_rows.undecided("run001", 0)) == 1

    def names_of(house: House) -> Iterable[str]:
        return ["arriving"] if house.answers._arriving else []

    async def until(look: Callable[[], Iterable[str]], wanted: str) -> None:
        async with asyncio.timeout(60):
            while wanted not in look():
                await asyncio.sleep(0)

    play(act)


def test_a_verdict_outlives_the_process(tmp_path: Path) -> None:
    async def first() -> str:
        async with House(tmp_path).open() as house:
            _, (task,) = await asked(house, "ann")
            async with house.deciding():
                assert await house.answers.answer("ann", task, ANSWER) == "accepted"
            return task

    async def second(task: str) -> None:
        async with House(tmp_path).open() as house:
            assert await house.answers.answer("ann", task, ANSWER) == "duplicate"

    asyncio.run(second(asyncio.run(first())))
