"""The routes over a house, asked in process; bytes of bodies are charged as the transport would charge them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.serve.house import House
from thinwire.coordinator.api import enrolment, exchanges, payloads, runs, uploads
from thinwire.coordinator.objects.problems import storage_problem
from thinwire.coordinator.records.clients import Client
from thinwire.coordinator.wire import problems
from thinwire.coordinator.wire.accounting import ACCOUNT, Account
from thinwire.coordinator.wire.downloads import Downloads
from thinwire.coordinator.wire.identity import Identity, hash_of
from thinwire.protocol.messages import Enrolment as EnrolmentMessage
from thinwire.protocol.messages import InviteRequest


class Counting:
    """Outermost: charges each request with the bytes of its bodies."""

    def __init__(self, app: ASGIApp, house: House) -> None:
        self._app = app
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        account, crossed = Account(), [0, 0]
        scope[ACCOUNT] = account

        async def receive_and_count() -> Message:
            message = await receive()
            crossed[0] += len(message.get("body", b""))
            return message

        async def send_and_count(message: Message) -> None:
            crossed[1] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive_and_count, send_and_count)
        finally:
            for key, value in account.split(crossed[0], crossed[1], 0.0):
                self._house.ledger.record(key, value)


def application(house: House) -> FastAPI:
    """Without lifespan: the house is open."""
    app = FastAPI()
    parts: list[object] = [
        house.answers, house.book, house.commands, house.enrolment, house.events, house.models, house.payloads,
        house.presence, house.reads, house.registrations, house.uploads, Downloads(house.folder / "downloads"),
    ]  # fmt: skip
    app.state.parts = {type(part): part for part in parts}
    for routes in (exchanges, uploads, payloads, enrolment, runs):
        app.include_router(routes.router)
    problems.install(app, guessed=lambda _: None, failed=storage_problem)
    people = house.enrolment
    app.add_middleware(
        Identity,
        find=people.find,
        is_owner=people.owner.is_owner,
        used=lambda one: people.used(one.name),
        public_read=True,
    )
    app.add_middleware(Counting, house=house)
    return app


@contextlib.asynccontextmanager
async def asking(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """Asks over HTTP, without a socket."""
    transport = httpx.ASGITransport(application(house))
    async with httpx.AsyncClient(transport=transport, base_url="http://house") as http:
        yield http


async def token_of(house: House, name: str, **wanted: Any) -> tuple[Client, dict[str, str]]:
    """A new client and the header that says who it is."""
    invite = await house.enrolment.invite(InviteRequest(**wanted))
    enrolled = await house.enrolment.enrol(EnrolmentMessage(invite=invite.invite, name=name))
    client = house.enrolment.find(hash_of(enrolled.token))
    assert client is not None
    return client, {"authorization": f"Bearer {enrolled.token}"}
