"""The operator's side of the HTTP interface, for programs and for our own commands. With an event loop: `async_client`.

    with Coordinator("https://coordinator.example", token="...") as coordinator:
        model = coordinator.store_model(Path("first.safetensors"))
        run = coordinator.start_run(RunSettings(name="night", rounds=3), model.digest)
        for event in coordinator.events(run.id):
            print(event.kind, event.data)

Everything may raise `ProblemError` (what the coordinator refuses; its `reason` is of the closed table) and
`UnreachableError`; making one: `NoAddressError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    PendingView,
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


class Coordinator:
    """Requests to one coordinator. `token`: an operator's, or a reader's for what only reads; `ca_file`: certificates
    to trust instead of the system's. To be closed; several threads may share it.
    """

    def __init__(self, url: str, token: str | None = None, *, ca_file: Path | None = None) -> None:
        self.url = url
        self._where, given = options(url, token, ca_file)
        self._http = httpx.Client(**given)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- runs -------------------------------------------------------------------------------------------------

    def store_model(self, file: Path) -> StoredModel:
        """Sends a safetensors file; its digest is what runs start from. Raises also: `OSError`."""
        return self.send_file(MODELS, file, StoredModel)

    def start_run(self, settings: RunSettings, model: bytes) -> RunView:
        """A run from a stored model, by its digest."""
        return self.send(requests.create_run(settings, model))

    def runs(self) -> list[RunView]:
        """All runs, the newest first."""
        return self.send(requests.runs()).runs

    def run(self, key: str) -> RunView:
        """One run, by name or id, with the names of whom it waits for."""
        return self.send(requests.run(key))

    def metrics(self, key: str) -> list[ExchangeMetrics]:
        """Every closed exchange of a run, in order."""
        return self.send(requests.metrics(key)).exchanges

    def attendance(self, key: str) -> list[Attendance]:
        """Who was in each of the latest exchanges, by name, and why the others were not."""
        return self.send(requests.attendance(key)).exchanges

    def ledger(self, key: str, sums: Literal["client", "kind"] | None = None) -> Ledger:
        """All bytes of a run, row by row or summed."""
        return self.send(requests.ledger(key, sums))

    def command(self, key: str, word: Command, open_: Open = "finish") -> RunView:
        """The run after pause, resume or stop. `open_`: what becomes of the open exchange."""
        return self.send(requests.command(key, word, open_))

    def change(self, key: str, wanted: RunChange) -> RunView:
        """A paused run with other settings, in force when it is resumed."""
        return self.send(requests.change(key, wanted))

    def delete_run(self, key: str) -> None:
        """A run that is over is gone, its model and figures with it."""
        self.order(requests.delete_run(key))

    def pull(self, key: str, file: Path, best: str | None = None) -> int:
        """Writes a run's model, whole or not at all; how many bytes. `best`: its best one by this score instead; "": by
        the first that the run keeps (`RunView.best`). Raises also: `OSError`.
        """
        return self.fetch_file(model_path(key, best), file)

    def events(self, key: str, last: int | None = None) -> Iterator[Event]:
        """The run as it stands, then what happens, until it is over or the coordinator stops. `last`: the id of the
        last event that was seen; those after it come first.
        """
        return self.stream(run_path(key, "/events"), last)

    # -- clients ----------------------------------------------------------------------------------------------

    def invite(
        self, *, role: Role = "client", group: str = "default", uses: int = 1, expires_in_s: float | None = None
    ) -> Invite:
        """A new invite; its code is told once."""
        return self.send(requests.invite(role, group, uses, expires_in_s))

    def invites(self) -> list[InviteView]:
        """Invites that have not expired."""
        return self.send(requests.invites()).invites

    def void(self, digits: str) -> None:
        """Nobody enrols any more with the invite that these digits name."""
        self.order(requests.void(digits))

    def clients(self) -> list[ClientView]:
        """All clients, by name."""
        return self.send(requests.clients()).clients

    def revoke(self, name: str, *, with_invite: bool = False) -> None:
        """The client's token is worth nothing from now on; `with_invite`: nor is the invite it came with."""
        self.order(requests.revoke(name, with_invite=with_invite))

    def delete_client(self, name: str) -> None:
        """The client is revoked, and in no list any more; its bytes, and its name in histories, stay."""
        self.order(requests.delete_client(name))

    def rename(self, name: str, label: str | None) -> None:
        """What people call the client from now on, None for its name; the name itself stays."""
        self.send(requests.rename(name, label))

    def pending(self) -> list[PendingView]:
        """Devices without an invite that ask to be let in, the longest waiting first."""
        return self.send(requests.pending()).pending

    def accept(
        self, code: str, *, group: str = "default", role: Literal["client", "evaluator"] = "client"
    ) -> PendingView:
        """The device that shows this code may enrol."""
        return self.send(requests.accept(code, group, role))

    def refuse(self, code: str) -> None:
        """The device that shows this code is told that it is not let in."""
        self.order(requests.refuse(code))

    def rotate_operator_token(self) -> str:
        """The new token of the coordinator's folder; this object goes on with it."""
        token = self.send(requests.rotate_operator_token()).token
        self._http.headers["authorization"] = f"Bearer {token}"
        return token

    # -- requests ---------------------------------------------------------------------------------------------

    def send(self, request: Request[MessageT]) -> MessageT:
        """The message that a request gives."""
        return decoded(request.gives, self._send(request.method, request.path, content_of(request)))

    def order(self, order: Order) -> None:
        """A request that gives nothing back."""
        self._send(order.method, order.path)

    def ask(self, method: str, path: str, kind: type[MessageT], body: BaseModel | None = None) -> MessageT:
        """The same by path, for what has no method here."""
        return self.send(Request(method, path, kind, body))

    def text(self, path: str, accept: str) -> str:
        """A body as text."""
        return self._send("GET", path, accept=accept).text

    def send_file(self, path: str, file: Path, kind: type[MessageT]) -> MessageT:
        """POSTs a file, block by block. Raises also: `OSError`."""
        with file.open("rb") as body:
            size = {"content-length": str(file.stat().st_size), "content-type": "application/octet-stream"}
            return decoded(kind, self._send("POST", path, iter(lambda: body.read(BLOCK_BYTES), b""), size))

    def fetch_file(self, path: str, file: Path) -> int:
        """GETs into a file, whole or not at all; how many bytes. Raises also: `OSError`."""
        with self._stream(path, {"accept": "*/*"}) as response:
            write_atomic(file, response.iter_bytes(), fsync=False, mode=0o666)
        return file.stat().st_size

    def stream(self, path: str, last: int | None = None) -> Iterator[Event]:
        """A stream of server-sent events, until the coordinator ends it."""
        with self._stream(path, behind(last)) as response:
            reader = EventReader()
            for line in response.iter_lines():
                yield from reader.read(line)

    def _send(
        self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None, *, accept: str = JSON
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path, content=content, headers=headers_of(content, headers, accept))
        except httpx.HTTPError as error:
            raise unreachable(self._where, error) from None
        check(response)
        return response

    @contextmanager
    def _stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        began = False
        try:
            with self._http.stream("GET", path, headers=headers, timeout=STREAM_TIMEOUT) as response:
                if response.is_error:
                    response.read()
                check(response)
                began = True
                yield response
        except httpx.HTTPError as error:
            raise unreachable(self._where, error, broke=began) from None
