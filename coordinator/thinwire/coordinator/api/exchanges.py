"""Registrations and answers: what a client does again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from thinwire.coordinator.records.clients import Client
from thinwire.coordinator.serve.answers import Answers
from thinwire.coordinator.serve.enrolment import Enrolment
from thinwire.coordinator.serve.exchanges import ExchangeBook
from thinwire.coordinator.serve.registrations import FinishedError, Registrations
from thinwire.coordinator.serve.tasks import TaskBook, TaskFacts
from thinwire.coordinator.wire.accounting import Share, account_of
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.negotiation import empty, read_body, read_message, respond, response_type
from thinwire.coordinator.wire.problems import problem_response
from thinwire.protocol.encoding import MSGPACK, encode_message
from thinwire.protocol.messages import (
    MAX_MESSAGE_BYTES,
    AnswerMessage,
    DeclineMessage,
    LedgerKind,
    Registration,
    TaskMessage,
    VerdictMessage,
)
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.short import decode_short, encode_short

from .parts import TaskId, client_of, hung_up, of

Inline = Annotated[bool, Query(description="whether parts may travel inside a msgpack message")]
WaitS = Annotated[float, Query(ge=0, le=600, description="seconds to wait for a task")]
_ANSWERED: Final = (
    "task-not-found",
    "answer-invalid",
    "payload-invalid",
    "digest-mismatch",
    "answer-not-found",
    "upload-not-found",
    "upload-incomplete",
    "storage-full",
    "storage-failed",
)
router = APIRouter(tags=["exchanges"])


@router.post(
    "/v1/registrations",
    **describe(
        "Wait for the next task of any run this client may serve",
        takes=Registration,
        gives=TaskMessage,
        also={204: "Nothing yet; ask again after `Retry-After` seconds"},
        problems=("run-finished", "model-mismatch", "client-doubled", "wire-version"),
    ),
)
async def register(request: Request, wait_s: WaitS = 0, inline: Inline = True) -> Response:
    client_of(request, "register")
    registration = await read_message(request, Registration)
    inline = inline and response_type(request) == MSGPACK
    task = await _next_task(request, registration, wait_s, inline=inline)
    return task if isinstance(task, Response) else respond(request, task)


@router.post(
    "/v1/r",
    **describe(
        "The same as `/v1/registrations` in the short form, which has no `Content-Type`",
        takes=MSGPACK,
        gives=MSGPACK,
        also={204: "Nothing yet; ask again after `Retry-After` seconds"},
        problems=("run-finished", "model-mismatch", "wire-version", "bad-request", "bad-message", "message-too-large"),
    ),
)
async def register_shortly(request: Request, wait_s: WaitS = 0, inline: Inline = True) -> Response:
    """`register` in the short form."""
    client_of(request, "register")
    registration = decode_short(Registration, await read_body(request, MAX_MESSAGE_BYTES))
    task = await _next_task(request, registration, wait_s, inline=inline)
    return task if isinstance(task, Response) else Response(encode_short(task))


async def _next_task(
    request: Request, registration: Registration, wait_s: float, *, inline: bool
) -> TaskMessage | Response:
    """The client's next task, or what to answer without one."""
    client, account = client_of(request, "register"), account_of(request)
    enrolment, registrations, book = of(request, Enrolment), of(request, Registrations), of(request, TaskBook)
    await enrolment.save()
    try:
        task = await registrations.next_task(
            client, registration, wait_s, inline=inline, hung_up=lambda: hung_up(request)
        )
    except FinishedError as error:
        return problem_response(request, error, model=error.model)
    if task is None:
        account.kind = "idle"
        return empty(204, {"retry-after": "1" if wait_s >= 10 else "5"})
    facts = await book.find(task.task, client.name)
    account.kind = "evaluate" if facts.is_evaluation else "register"
    account.run, account.exchange = facts.run, facts.exchange
    account.downlink_payload = _inline_bytes(task)
    return task


def _inline_bytes(task: TaskMessage) -> int:
    return sum(len(part.inline or b"") for part in task.parts)


@router.post(
    "/v1/tasks/{task}/answer",
    **describe(
        "Answer a task; safe to repeat",
        takes=AnswerMessage,
        gives=VerdictMessage,
        also={202: "Still being checked; ask again after `Retry-After` seconds, naming the payload as `received`"},
        problems=_ANSWERED,
    ),
)
async def answer(request: Request, task: TaskId, wait_s: WaitS = 0, inline: Inline = True) -> Response:
    client, found = await _charged(request, task)
    message = await read_message(request, AnswerMessage)
    media_type = response_type(request)
    return await _answered(
        request, client, task, found, message, wait_s, inline=inline and media_type == MSGPACK,
        written=lambda verdict: encode_message(verdict, media_type), media_type=media_type,
    )  # fmt: skip


@router.post(
    "/v1/a/{task}",
    **describe(
        "The same as `/v1/tasks/{task}/answer` in the short form, which has no `Content-Type`",
        takes=MSGPACK,
        gives=MSGPACK,
        also={202: "Still being checked; ask again after `Retry-After` seconds, naming the payload as `received`"},
        problems=(*_ANSWERED, "bad-request", "bad-message", "message-too-large"),
    ),
)
async def answer_shortly(request: Request, task: TaskId, wait_s: WaitS = 0, inline: Inline = True) -> Response:
    """`answer` in the short form: what the next task shares with the one that is answered is left out of it."""
    client, found = await _charged(request, task)
    message = decode_short(AnswerMessage, await read_body(request, MAX_MESSAGE_BYTES))
    facts = None if found is None else await of(request, ExchangeBook).find(found.run, found.exchange)
    known = {} if found is None or facts is None else {"run": found.run, "plan": facts.plan}
    return await _answered(
        request,
        client,
        task,
        found,
        message,
        wait_s,
        inline=inline,
        written=lambda verdict: encode_short(verdict, known),
    )


async def _answered(
    request: Request,
    client: Client,
    task: str,
    found: TaskFacts | None,
    message: AnswerMessage,
    wait_s: float,
    *,
    inline: bool,
    written: Callable[[VerdictMessage], bytes],
    media_type: str | None = None,
) -> Response:
    """`found`: the task, which the request is charged to; `wait_s`: how long the verdict may wait for the next task."""
    account, book = account_of(request), of(request, TaskBook)
    answers, registrations = of(request, Answers), of(request, Registrations)
    account.uplink_payload = len(message.payload or b"")
    verdict = await answers.answer(client.name, task, message, account)
    if verdict is None:
        return empty(202, {"retry-after": "1"})
    following = None
    if found is not None:
        following = await registrations.following(
            client, found, wait_s, inline=inline, hung_up=lambda: hung_up(request)
        )
    body = written(VerdictMessage(verdict=verdict, next=following))
    if following is not None:
        bare = written(VerdictMessage(verdict=verdict))
        facts = await book.find(following.task, client.name)
        account.also.append(_share(following, facts, len(body) - len(bare)))
    return Response(body, 200, None, media_type)


async def _charged(request: Request, task: str) -> tuple[Client, TaskFacts | None]:
    """The client, and its task: the request is charged to its exchange from now on; None where it has none of this
    id.
    """
    client, account = client_of(request, "answer"), account_of(request)
    try:
        found = await of(request, TaskBook).find(task, client.name)
    except ProblemError as error:
        if error.reason != "task-not-found":
            raise
        return client, None
    account.run, account.exchange = found.run, found.exchange
    if found.is_evaluation:
        account.kind = "evaluate"
    return client, found


def _share(following: TaskMessage, facts: TaskFacts, size: int) -> Share:
    """These bytes of the response belong to the exchange of the task that rides on it."""
    payload = _inline_bytes(following)
    kind: LedgerKind = "evaluate" if facts.is_evaluation else "register"
    return Share(kind, facts.run, facts.exchange, payload, size - payload)


@router.post(
    "/v1/tasks/{task}/decline",
    **describe(
        "Give a task up that this client cannot do, so that nobody waits for it; safe to repeat",
        takes=DeclineMessage,
        status=204,
        problems=("task-not-found", "storage-failed", "storage-full"),
    ),
)
async def decline(request: Request, task: TaskId) -> Response:
    client, _ = await _charged(request, task)
    message = await read_message(request, DeclineMessage)
    await of(request, Answers).decline(client.name, task, message.detail)
    return empty(204)
