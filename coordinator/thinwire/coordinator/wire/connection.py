"""One connection: parsed by uvicorn, counted, guarded, watched, its bodies handed on as they arrive."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from thinwire.machine.tcp import TcpInfo
from thinwire.protocol.encoding import JSON, encode_message
from thinwire.protocol.messages import Problem
from thinwire.protocol.reasons import REASONS, ProblemError

from .accounting import Books
from .addresses import address_of
from .guard import MAX_HEAD_BYTES, Crowd, Guard
from .handshake import Handshake
from .kernel import Kernel, Parting
from .meter import METER, Meter, MeteredTransport
from .sink import KEPT_BYTES, SINK, Pieces, Sink
from .sparing import SparingLogger
from .stalls import StallWatch

MAX_HEADERS: Final = 100
"""Lines of a request's head, and of what follows its body."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all connections of a server have in common. `stalled_after_s`: a head, a body or a reader that stands
    still for so long is cut; `tls`: what certificate and key are shown, None for plain HTTP.
    """

    books: Books
    crowd: Crowd
    stalled_after_s: float
    tls: ssl.SSLContext | None = None
    log: SparingLogger = field(default_factory=lambda: SparingLogger("uvicorn.error"))


def accept(terms: Terms, **given: Any) -> asyncio.BaseProtocol:
    """What uvicorn makes of each connection; `given` is its own."""
    connection = Connection(terms, **given)
    pieces = Pieces(connection, connection.takes)
    if terms.tls is None:
        return pieces
    return Handshake(terms.tls, pieces, connection.enter, connection.agreed, connection.failed)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with a `Sink` and the connection's `Meter` in the scope of each request."""

    def __init__(self, terms: Terms, **given: Any) -> None:
        super().__init__(**given)
        self.logger = terms.log
        self._terms = terms
        self._address: str | None = None
        self._refused: str | None = None
        self._kernel: Kernel | None = None
        self._early = b""
        self._parting: Parting | None = None
        self._lines = 0
        self._sink = Sink()

    def takes(self) -> bool:
        """Whether somebody takes the body that is arriving."""
        return self._sink.take is not None

    # -- how it begins ----------------------------------------------------------------------------------------

    def enter(self, transport: asyncio.BaseTransport) -> bool:
        """Counts the connection; whether it is wanted."""
        address = address_of({"client": transport.get_extra_info("peername")})
        self._refused = self._terms.crowd.enter(address)
        if self._refused is None:
            self._address = address
        return self._refused is None

    def agreed(self, transport: asyncio.Transport, kernel: Kernel) -> None:
        """Under TLS, where it has been counted already."""
        self._kernel = kernel
        self.connection_made(transport)

    def failed(self, kernel: Kernel) -> None:
        """Under TLS: no keys were agreed. What was tried costs bytes, too."""
        counted = kernel.counted()
        kernel.close()
        meter = Meter(self._terms.books, lambda: None, tls=True)
        meter.lost()
        meter.parted(counted)
        self._leave()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        stalled_after_s, tls = self._terms.stalled_after_s, self._terms.tls is not None
        if not tls:
            self.enter(transport)
        kernel = self._kernel = self._kernel or Kernel(transport)

        def abort(*, silent: bool = False) -> None:
            kernel.cut(silent=silent)
            transport.abort()

        self._abort = abort
        self._meter = Meter(self._terms.books, abort, kernel.counted, tls=tls)
        self._watch = StallWatch(transport, kernel, stalled_after_s, partial(abort, silent=True))
        self._guard = Guard(self.loop, stalled_after_s, abort)
        super().connection_made(cast(asyncio.Transport, MeteredTransport(transport, self._meter, self._watch.wrote)))
        if self._refused is not None:
            kernel.close()  # nothing of ours waits for a peer that does not count
            self._refuse(ProblemError(self._refused, REASONS[self._refused].meaning))
            return
        self._guard.wait()
        if self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    # -- how it ends ------------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        if self._kernel is None:  # before it was made: `failed` follows
            return
        super().connection_lost(exc)
        if isinstance(exc, TimeoutError):  # the kernel's own
            self._kernel.cut(silent=True)
        self._guard.stop_waiting()
        self._watch.end()
        self._meter.lost(announced=self.cycle is not None and not self.cycle.keep_alive)
        self._parting = Parting(self._kernel, self._terms.stalled_after_s, self._parted)
        if not self._parting.begin():
            self.connections.add(self)  # the server waits for it when it stops

    def shutdown(self) -> None:
        """The server stops."""
        if self._parting is None:
            super().shutdown()
        else:
            self._parting.end()

    def _parted(self, counted: TcpInfo | None) -> None:
        self.connections.discard(self)
        self._meter.parted(counted)
        self._leave()

    def _leave(self) -> None:
        if self._address is not None:
            self._terms.crowd.leave(self._address)
            self._address = None

    # -- what arrives -----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._kernel is None:  # sent with the last of the handshake
            self._early += data
            return
        self._meter.uplink += len(data)
        if not self._guard.takes(len(data)):
            self._abort()
            return
        super().data_received(data)
        # Nothing has begun, though something has come: empty lines, which end the server's own waiting.
        idle = self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete)
        if not self.transport.is_closing() and not self._guard.took(len(data), idle=idle):
            self._refuse(ProblemError("bad-request", f"more than {MAX_HEAD_BYTES} bytes around a request's body"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._sink = Sink(self._terms.stalled_after_s)
        scope = cast(dict[str, Any], self.scope)
        scope[SINK], scope[METER] = self._sink, self._meter
        self._lines = 0
        self._guard.head_begins()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        if self._lines > MAX_HEADERS:
            raise ValueError("too many header lines")  # ends the parsing
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._guard.head_ends()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._guard.body(len(body))
        if not self._sink.put(body):
            # Without a byte it wakes who waits for more, and finds the error.
            super().on_body(b"" if self._sink.error else body)
            if len(self.cycle.body) > KEPT_BYTES:
                self.flow.pause_reading()  # until somebody asks for it, or has answered without

    def on_message_complete(self) -> None:
        self._guard.body_ends()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self.cycle.response_complete:  # not of a pipelined one that waits
            self.cycle.body.clear()
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._guard.answered_early()

    def send_400_response(self, msg: str) -> None:
        if self._lines > MAX_HEADERS:
            msg = f"more than {MAX_HEADERS} header lines"
        self._refuse(ProblemError("bad-request", msg))

    def _refuse(self, error: ProblemError) -> None:
        if not self.transport.is_closing():
            self.transport.write(_response(error))
            self.transport.close()


def _response(error: ProblemError) -> bytes:
    """A whole response, for a peer whose request no application sees."""
    body = encode_message(Problem(reason=error.reason, detail=error.detail, retry=error.retry), JSON)
    lines = [f"HTTP/1.1 {error.status} {error.reason}", f"content-type: {JSON}", f"content-length: {len(body)}"]
    if error.retry:
        lines.append("retry-after: 10")
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + body
