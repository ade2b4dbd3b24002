"""Registrations and answers: what a client does again and again."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from thinwire.coordinator.access import Client
from thinwire.coordinator.coordinator import Coordinator
from thinwire.coordinator.dispatch import FinishedError
from thinwire.coordinator.runs import OpenExchange, Run
from thinwire.coordinator.wire.accounting import Account, Share, account_of
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.negotiation import empty, read_message, respond, response_type
from thinwire.coordinator.wire.problems import problem_response
from thinwire.protocol.encoding import MSGPACK
from thinwire.protocol.messages import AnswerMessage, DeclineMessage, Registration, TaskMessage, VerdictMessage

from .parts import TaskId, client_of, coordinator_of

LINGER_S = 0.2
"""An accepted answer waits this long for its exchange to close, so that the next task rides on the reply."""
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
    client = client_of(request, "register")
    coordinator = coordinator_of(request)
    registration = await read_message(request, Registration)
    await coordinator.access.save()
    inline = inline and response_type(request) == MSGPACK
    try:
        task = await coordinator.dispatch.next_task(
            client, registration, wait_s, inline=inline, hung_up=lambda: _hung_up(request)
        )
    except FinishedError as error:
        return problem_response(request, error, model=error.model)
    if task is None:
        account_of(request).kind = "idle"
        return empty(204, {"retry-after": "1" if wait_s >= 10 else "5"})
    _attribute(coordinator, request, task)
    return respond(request, task)


async def _hung_up(request: Request) -> None:
    """Returns when the peer has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _kind(
    coordinator: Coordinator, task: TaskMessage, kind: Literal["register", "answer"]
) -> Literal["register", "answer", "evaluate"]:
    run = coordinator.runs[task.run]
    return "evaluate" if run.open is not None and run.open.task.kind == "evaluate" else kind


def _attribute(coordinator: Coordinator, request: Request, task: TaskMessage) -> None:
    account = account_of(request)
    account.kind = _kind(coordinator, task, "register")
    account.run, account.exchange = task.run, task.exchange
    account.downlink_payload = _inline_bytes(task)


def _inline_bytes(task: TaskMessage) -> int:
    return sum(len(part.inline or b"") for part in task.parts)


@router.post(
    "/v1/tasks/{task}/answer",
    **describe(
        "Answer a task; safe to repeat",
        takes=AnswerMessage,
        gives=VerdictMessage,
        also={202: "Still being checked; send the same again after `Retry-After` seconds"},
        problems=(
            "task-not-found",
            "answer-invalid",
            "payload-invalid",
            "digest-mismatch",
            "upload-not-found",
            "upload-incomplete",
            "storage-full",
            "storage-failed",
        ),
    ),
)
async def answer(request: Request, task: TaskId, inline: Inline = True) -> Response:
    client = client_of(request, "answer")
    coordinator = coordinator_of(request)
    account = account_of(request)
    found = _found(coordinator, account, client, task)
    message = await read_message(request, AnswerMessage)
    account.uplink_payload = len(message.payload or b"")
    if message.link is not None:
        coordinator.links[client.name] = message.link
        coordinator.fresh_links.add(client.name)
    verdict = await coordinator.intake.answer(client, task, message)
    if verdict is None:
        return empty(202, {"retry-after": "1"})
    following = await _next(coordinator, client, found, inline=inline and response_type(request) == MSGPACK)
    alone = respond(request, VerdictMessage(verdict=verdict))
    if following is None:
        return alone
    both, payload = respond(request, VerdictMessage(verdict=verdict, next=following)), _inline_bytes(following)
    framing = len(both.body) - len(alone.body) - payload
    kind = _kind(coordinator, following, "register")
    account.also.append(Share(kind, following.run, following.exchange, payload, framing))
    return both


def _found(
    coordinator: Coordinator, account: Account, client: Client, task: str
) -> tuple[Run, OpenExchange, int] | None:
    """The client's task, if its exchange is open; the request is charged to it."""
    found = coordinator.task_of(client.name, task)
    if found is None:
        return None
    run, opened, _ = found
    account.run, account.exchange = run.id, opened.index
    if opened.task.kind == "evaluate":
        account.kind = "evaluate"
    return found


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
    client = client_of(request, "answer")
    coordinator = coordinator_of(request)
    _found(coordinator, account_of(request), client, task)
    message = await read_message(request, DeclineMessage)
    await coordinator.intake.decline(client, task, message.detail)
    return empty(204)


async def _next(
    coordinator: Coordinator, client: Client, found: tuple[Run, OpenExchange, int] | None, *, inline: bool
) -> TaskMessage | None:
    """The client's next task, where it opens within a moment. To have answered a task implies holding its parts."""
    seen = coordinator.presence.find(client.name)
    if seen is None:
        return None
    run = None if found is None else found[0]
    if found is not None:
        seen.holds = {**seen.holds, found[0].id: found[1].index}
    until = time.monotonic() + LINGER_S
    while (task := await coordinator.dispatch.task_for(seen, inline=inline)) is None:
        left_s = until - time.monotonic()
        if run is None or run.finished or left_s <= 0:
            return None
        try:
            async with asyncio.timeout(left_s), run.changed:
                await run.changed.wait()
        except TimeoutError:
            return None
    return task
