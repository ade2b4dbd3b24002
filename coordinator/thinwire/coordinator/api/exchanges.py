"""Registrations and answers: what a client does again and again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from thinwire.coordinator.serve.answers import Answers
from thinwire.coordinator.serve.enrolment import Enrolment
from thinwire.coordinator.serve.registrations import FinishedError, Registrations
from thinwire.coordinator.serve.tasks import TaskBook, TaskFacts
from thinwire.coordinator.wire.accounting import Account, Share, account_of
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.negotiation import empty, read_message, respond, response_type
from thinwire.coordinator.wire.problems import problem_response
from thinwire.protocol.encoding import MSGPACK, encode_message
from thinwire.protocol.messages import (
    AnswerMessage,
    DeclineMessage,
    LedgerKind,
    Registration,
    TaskMessage,
    VerdictMessage,
)
from thinwire.protocol.reasons import ProblemError

from .parts import TaskId, client_of, of

Inline = Annotated[bool, Query(description="whether parts may travel inside a msgpack message")]
router = APIRouter(tags=["exchanges"])


@router.post(
    "/v1/registrations",
    **describe(
        "Wait for the next task of any run this client may serve",
        takes=Registration,
        gives=TaskMessage,
        also={204: "Nothing yet; ask again after `Retry-After` seconds"},
        problems=("run-finished", "model-mismatch", "wire-version"),
    ),
)
async def register(
    request: Request,
    wait_s: Annotated[float, Query(ge=0, le=600, description="seconds to wait for a task")] = 0,
    inline: Inline = True,
) -> Response:
    client, account = client_of(request, "register"), account_of(request)
    enrolment, registrations, book = of(request, Enrolment), of(request, Registrations), of(request, TaskBook)
    registration = await read_message(request, Registration)
    await enrolment.save()
    inline = inline and response_type(request) == MSGPACK
    try:
        task = await registrations.next_task(
            client, registration, wait_s, inline=inline, hung_up=lambda: _hung_up(request)
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
    return respond(request, task)


async def _hung_up(request: Request) -> None:
    """Returns when the peer has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _inline_bytes(task: TaskMessage) -> int:
    return sum(len(part.inline or b"") for part in task.parts)


@router.post(
    "/v1/tasks/{task}/answer",
    **describe(
        "Answer a task; safe to repeat",
        takes=AnswerMessage,
        gives=VerdictMessage,
        also={202: "Still being checked; ask again after `Retry-After` seconds, naming the payload as `received`"},
        problems=(
            "task-not-found",
            "answer-invalid",
            "payload-invalid",
            "digest-mismatch",
            "answer-not-found",
            "upload-not-found",
            "upload-incomplete",
            "storage-full",
            "storage-failed",
        ),
    ),
)
async def answer(request: Request, task: TaskId, inline: Inline = True) -> Response:
    client, account = client_of(request, "answer"), account_of(request)
    answers, registrations, book = of(request, Answers), of(request, Registrations), of(request, TaskBook)
    found = await _charged(book, task, client.name, account)
    message = await read_message(request, AnswerMessage)
    account.uplink_payload = len(message.payload or b"")
    verdict = await answers.answer(client.name, task, message)
    if verdict is None:
        return empty(202, {"retry-after": "1"})
    media_type, following = response_type(request), None
    if found is not None:
        following = await registrations.following(client.name, found, inline=inline and media_type == MSGPACK)
    body = encode_message(VerdictMessage(verdict=verdict, next=following), media_type)
    if following is not None:
        bare = encode_message(VerdictMessage(verdict=verdict), media_type)
        facts = await book.find(following.task, client.name)
        account.also.append(_share(following, facts, len(body) - len(bare)))
    return Response(body, 200, None, media_type)


async def _charged(book: TaskBook, task: str, client: str, account: Account) -> TaskFacts | None:
    """The client's task, to whose exchange the request is charged from now on; None where it has none of this id."""
    try:
        found = await book.find(task, client)
    except ProblemError as error:
        if error.reason != "task-not-found":
            raise
        return None
    account.run, account.exchange = found.run, found.exchange
    if found.is_evaluation:
        account.kind = "evaluate"
    return found


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
    client, answers = client_of(request, "answer"), of(request, Answers)
    await _charged(of(request, TaskBook), task, client.name, account_of(request))
    message = await read_message(request, DeclineMessage)
    await answers.decline(client.name, task, message.detail)
    return empty(204)
