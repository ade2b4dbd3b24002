"""`Coordinator` for programs with an event loop; what it raises is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import httpx
from pydantic import BaseModel

from thinwire.machine.files import write_atomic
from thinwire.protocol.encoding import JSON
from thinwire.protocol.fields import Role
from thinwire.protocol.messages import (
    Attendance,
    ClientView,
    ExchangeMetrics,
    Invite,
    InviteView,
    Ledger,
    RunChange,
    RunView,
    StoredModel,
)
from thinwire.protocol.settings import RunSettings

from . import requests
from .requests import MODELS, Command, Open, Order, Request, model_path, run_path
from .transport import (
    BLOCK_BYTES,
    STREAM_TIMEOUT,
    Event,
    EventReader,
    behind,
    check,
    content_of,
    decoded,
    headers_of,
    options,
    unreachable,
)

MessageT = TypeVar("MessageT", bound=BaseModel)


class AsyncCoordinator:
    """The same for programs with an event loop."""

    def __init__(self, url: str, token: str | None = None, *, ca_file: Path | None = None) -> None:
        self.url = url
        self._where, given = options(url, token, ca_file)
        self._http = httpx.AsyncClient(**given)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def store_model(self, file: Path) -> StoredModel:
        """Sends a safetensors file; its digest is what runs start from. Raises also: `OSError`."""

        async def blocks() -> AsyncIterator[bytes]:
            with file.open("rb") as body:
                while block := await asyncio.to_thread(body.read, BLOCK_BYTES):
                    yield block

        size = {"content-length": str(file.stat().st_size), "content-type": "application/octet-stream"}
        return decoded(StoredModel, await self._send("POST", MODELS, blocks(), size))

    async def start_run(self, settings: RunSettings, model: bytes) -> RunView:
        """A run from a stored model, by its digest."""
        return await self.send(requests.create_run(settings, model))

    async def runs(self) -> list[RunView]:
        """All runs, the newest first."""
        return (await self.send(requests.runs())).runs

    async def run(self, key: str) -> RunView:
        """One run, by name or id, with the names of whom it waits for."""
        return await self.send(requests.run(key))

    async def metrics(self, key: str) -> list[ExchangeMetrics]:
        """Every closed exchange of a run, in order."""
        return (await self.send(requests.metrics(key))).exchanges

    async def attendance(self, key: str) -> list[Attendance]:
        """Who was in each of the latest exchanges, by name, and why the others were not."""
        return (await self.send(requests.attendance(key))).exchanges

    async def ledger(self, key: str, sums: Literal["client", "kind"] | None = None) -> Ledger:
        """All bytes of a run, row by row or summed."""
        return await self.send(requests.ledger(key, sums))

    async def command(self, key: str, word: Command, open_: Open = "finish") -> RunView:
        """The run after pause, resume or stop. `open_`: what becomes of the open exchange."""
        return await self.send(requests.command(key, word, open_))

    async def change(self, key: str, wanted: RunChange) -> RunView:
        """A paused run with other settings, in force when it is resumed."""
        return await self.send(requests.change(key, wanted))

    async def pull(self, key: str, file: Path, best: str | None = None) -> int:
        """As `Coordinator.pull`."""
        async with self._stream(model_path(key, best), {"accept": "*/*"}) as response:
            pieces = [piece async for piece in response.aiter_bytes()]
        await asyncio.to_thread(write_atomic, file, pieces, fsync=False, mode=0o666)
        return file.stat().st_size

    async def events(self, key: str, last: int | None = None) -> AsyncIterator[Event]:
        """As `Coordinator.events`."""
        async with self._stream(run_path(key, "/events"), behind(last)) as response:
            reader = EventReader()
            async for line in response.aiter_lines():
                for event in reader.read(line):
                    yield event

    async def invite(
        self, *, role: Role = "client", group: str = "default", uses: int = 1, expires_in_s: float | None = None
    ) -> Invite:
        """A new invite; its code is told once."""
        return await self.send(requests.invite(role, group, uses, expires_in_s))

    async def invites(self) -> list[InviteView]:
        """Invites that have not expired."""
        return (await self.send(requests.invites())).invites

    async def clients(self) -> list[ClientView]:
        """All clients, by name."""
        return (await self.send(requests.clients())).clients

    async def send(self, request: Request[MessageT]) -> MessageT:
        """The message that a request of `thinwire.operator.requests` gives."""
        return decoded(request.gives, await self._send(request.method, request.path, content_of(request)))

    async def order(self, order: Order) -> None:
        """A request that gives nothing back: `requests.void`, `requests.revoke`."""
        await self._send(order.method, order.path)

    async def _send(
        self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        try:
            response = await self._http.request(
                method, path, content=content, headers=headers_of(content, headers, JSON)
            )
        except httpx.HTTPError as error:
            raise unreachable(self._where, error) from None
        check(response)
        return response

    @asynccontextmanager
    async def _stream(self, path: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        began = False
        try:
            async with self._http.stream("GET", path, headers=headers, timeout=STREAM_TIMEOUT) as response:
                if response.is_error:
                    await response.aread()
                check(response)
                began = True
                yield response
        except httpx.HTTPError as error:
            raise unreachable(self._where, error, broke=began) from None
