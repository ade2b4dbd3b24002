"""The clients of `benchmarks.growth` and `benchmarks.scale`: thousands in one process, which train nothing."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.intake.load import HEADERS, Connection, Payload, answer, body_of
from thinwire.protocol.encoding import decode_message, encode_message
from thinwire.protocol.messages import (
    MAX_INLINE_BYTES,
    AnswerMessage,
    Enrolled,
    Enrolment,
    Plan,
    Registration,
    TaskMessage,
    VerdictMessage,
)

OTHER_FILES: Final = 100
WAIT_S: Final = 600


class NoRoomError(Exception):
    """This machine does not let a process have as many sockets as there would be clients."""


def room_for(clients: int) -> int:
    """So many clients, or as many as this machine has room for: two handles for each connection, in each process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return clients if hard == resource.RLIM_INFINITY else max(0, min(clients, (hard - OTHER_FILES) // 2))


def said_of_room(wanted: int, fitting: int) -> str:
    """What is told where fewer clients fit than were wanted; else nothing."""
    if wanted == fitting:
        return ""
    return (
        f"{wanted:,} clients need {2 * wanted + OTHER_FILES:,} open files in each process; this machine allows as many "
        f"as {fitting:,} need (ulimit -Hn): these are measured"
    )


def let_have(clients: int) -> None:
    """Lets this process have what the coordinator, which lets itself, needs: two handles for each connection.

    Raises: `NoRoomError`.
    """
    wanted = 2 * clients + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise NoRoomError(
            f"{clients} clients need {wanted} open files in each process; here it may have {hard} at most "
            f"(ulimit -Hn): raise that limit, or choose fewer with --clients"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, from its first byte, sent at `began`, to its verdict at `ended`; seconds."""

    exchange: int
    began: float
    ended: float


@dataclass
class Marks:
    """What was seen when the first task of each exchange came: seconds, and what `used` says, processor seconds of the
    coordinator. `again`: how often an answer had to be sent again, since it was still being checked.
    """

    used: Callable[[], float]
    last: int
    seen: dict[int, tuple[float, float]] = field(default_factory=dict)
    answers: list[Answered] = field(default_factory=list)
    again: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, exchange: int) -> None:
        if exchange not in self.seen:
            self.seen[exchange] = time.monotonic(), self.used()
            if exchange == self.last:
                self.over.set()


class Client:
    """One client. `plans`: digest -> what its answers are made of, read by whoever sees it first."""

    def __init__(self, index: int, connection: Connection, plans: dict[bytes, asyncio.Task[Payload]]) -> None:
        self._index = index
        self._connection = connection
        self._plans = plans

    async def enrol(self, invite: str) -> None:
        await self._connection.open()
        body = encode_message(Enrolment(invite=invite, name=f"client-{self._index:05d}"))
        told = await self._connection.ask("POST", "/v1/clients", HEADERS, (body,))
        self._connection.token = decode_message(Enrolled, body_of(told)).token

    async def register(self, wait_s: float = WAIT_S) -> TaskMessage | None:
        """Its task; None where there is none after so long."""
        path = f"/v1/registrations?wait_s={wait_s}"
        body = body_of(await self._connection.ask("POST", path, HEADERS, (encode_message(Registration()),)))
        return decode_message(TaskMessage, body, max_bytes=1 << 20) if body else None

    async def work(self, marks: Marks, task: TaskMessage | None = None) -> None:
        """Waits for tasks and answers them, without an end. `task`: the one that it has already."""
        while True:
            while task is None:
                task = await self.register()
            marks.note(task.exchange)
            task = await self._answer(task, marks)

    async def _answer(self, task: TaskMessage, marks: Marks) -> TaskMessage | None:
        """The next task, where it comes with the verdict. What is too large for a message is uploaded."""
        if task.plan not in self._plans:
            self._plans[task.plan] = asyncio.create_task(self._read(task.plan))
        payload = await asyncio.shield(self._plans[task.plan])
        pieces, digest = payload.of(self._index, task.exchange)
        began = time.monotonic()
        if payload.size > MAX_INLINE_BYTES:
            told = await answer(self._connection, task.task, pieces, digest)
        else:
            told = await self._answer_inline(task.task, pieces, digest, marks)
        marks.answers.append(Answered(task.exchange, began, time.monotonic()))
        return decode_message(VerdictMessage, body_of(told), max_bytes=1 << 20).next

    async def _answer_inline(self, task: str, pieces: tuple[memoryview, bytes], digest: bytes, marks: Marks) -> bytes:
        body = encode_message(AnswerMessage(examples=1, payload=b"".join(pieces)))
        while True:
            told = await self._connection.ask("POST", f"/v1/tasks/{task}/answer", HEADERS, (body,))
            if b" 202 " not in told.partition(b"\r\n")[0]:
                return told
            marks.again += 1
            body = encode_message(AnswerMessage(examples=1, received=digest))
            await asyncio.sleep(1.0)

    async def _read(self, plan: bytes) -> Payload:
        told = await self._connection.ask("GET", f"/v1/plans/{plan.hex()}", HEADERS)
        return Payload(decode_message(Plan, body_of(told), max_bytes=1 << 24))


async def at_most(count: int, calls: Iterable[Callable[[], Any]]) -> None:
    """Makes all calls, so many at a time."""
    room = asyncio.Semaphore(count)

    async def one(call: Callable[[], Any]) -> None:
        async with room:
            await call()

    await asyncio.gather(*(one(call) for call in calls))
