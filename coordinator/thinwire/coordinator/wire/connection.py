"""One connection: parsed by uvicorn, counted, guarded, watched, its bodies handed on as they arrive."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from thinwire.machine.tcp import TcpInfo, tcp_info
from thinwire.protocol.encoding import JSON, encode_message
from thinwire.protocol.messages import Problem
from thinwire.protocol.reasons import REASONS, ProblemError

from .accounting import Books
from .addresses import address_of
from .guard import MAX_HEAD_BYTES, Crowd, Guard
from .meter import METER, Meter, MeteredTransport
from .sink import SINK, Pieces, Sink
from .stalls import StallWatch


@dataclass(frozen=True, slots=True)
class Terms:
    """What all connections of a server have in common. `stalled_after_s`: a head, a body or a reader that stands
    still for so long is cut.
    """

    books: Books
    crowd: Crowd
    stalled_after_s: float


def accept(terms: Terms, **given: Any) -> Pieces:
    """What uvicorn makes of each connection; `given` is its own."""
    connection = Connection(terms, **given)
    return Pieces(connection, connection.takes)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with a `Sink` and the connection's `Meter` in the scope of each request."""

    def __init__(self, terms: Terms, **given: Any) -> None:
        super().__init__(**given)
        self._terms = terms
        self._address: str | None = None
        self._raw: socket.socket | None = None
        self._sink = Sink()

    def takes(self) -> bool:
        """Whether somebody takes the body that is arriving."""
        return self._sink.take is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        stalled_after_s = self._terms.stalled_after_s
        self._meter = Meter(self._terms.books, transport.abort, self._kernel(transport))
        self._watch = StallWatch(transport, stalled_after_s)
        self._guard = Guard(self.loop, stalled_after_s, transport.abort)
        super().connection_made(cast(asyncio.Transport, MeteredTransport(transport, self._meter, self._watch.wrote)))
        address = address_of({"client": self.client})
        refused = self._terms.crowd.enter(address)
        if refused is None:
            self._address = address
            self._guard.wait()
        else:
            self._refuse(ProblemError(refused, REASONS[refused].meaning))

    def _kernel(self, transport: asyncio.Transport) -> Callable[[], TcpInfo | None]:
        """Under TLS, where the transport's count is not the kernel's."""
        if transport.get_extra_info("sslcontext") is None:
            return lambda: None
        # A handle of our own: the transport has closed its own when the last bytes are to be counted.
        self._raw = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        return partial(tcp_info, self._raw)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._guard.stop_waiting()
        self._watch.end()
        self._meter.close()
        if self._raw is not None:
            self._raw.close()
        if self._address is not None:
            self._terms.crowd.leave(self._address)
            self._address = None

    def data_received(self, data: bytes) -> None:
        self._meter.uplink += len(data)
        if not self._guard.takes(len(data)):
            self.transport.abort()
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
        self._guard.head_begins()

    def on_headers_complete(self) -> None:
        self._guard.head_ends()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._guard.body(len(body))
        if not self._sink.put(body):
            # Without a byte it wakes who waits for more, and finds the error.
            super().on_body(b"" if self._sink.error else body)

    def on_message_complete(self) -> None:
        self._guard.body_ends()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._guard.answered_early()

    def send_400_response(self, msg: str) -> None:
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
