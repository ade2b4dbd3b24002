"""What one connection may cost: how many there are, how long a request's head may take, what surrounds its body.
A peer that does not read is `stalls`' to cut.

The server below keeps a head of any length, waits for it for ever, and reads on after an answer for as long as a body
goes on.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from typing import Final

from thinwire.protocol.encoding import JSON, encode_message
from thinwire.protocol.messages import Problem
from thinwire.protocol.reasons import REASONS, ProblemError

from .addresses import address_of
from .reading import SinkProtocol
from .settings import ServeSettings

MAX_HEAD_BYTES: Final = 1 << 16
"""Of a request's line and headers, and beyond that of as many bytes around its body as the body has."""
MAX_REST_BYTES: Final = 1 << 22
"""Of a body that goes on when its request has been answered: read, so that the answer is, and thrown away."""
_OTHER_FILES: Final = 256
_MOST_FILES: Final = 1 << 16


class Connections:
    """How many are open, in all and per address. `trusted`: proxies, whose own number is not limited."""

    def __init__(self, settings: ServeSettings) -> None:
        self.stalled_after_s = settings.stalled_after_s
        self._per_address = settings.max_connections_per_address
        self._trusted = settings.proxies
        self._most = _file_limit() - _OTHER_FILES
        self._open = Counter[str]()

    def enter(self, address: str) -> str | None:
        """Counts it; or the reason why it is not wanted."""
        if self._open.total() >= self._most:
            return "unavailable"
        if address not in self._trusted and self._open[address] >= self._per_address:
            return "too-many-requests"
        self._open[address] += 1
        return None

    def leave(self, address: str) -> None:
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


def _file_limit() -> int:
    """How many files and sockets this process may have: as many as the machine lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(most, 2 * _OTHER_FILES)


def _problem(error: ProblemError) -> bytes:
    """A whole response, for a peer whose request no application sees."""
    body = encode_message(Problem(reason=error.reason, detail=error.detail, retry=error.retry), JSON)
    lines = [f"HTTP/1.1 {error.status} {error.reason}", f"content-type: {JSON}", f"content-length: {len(body)}"]
    if error.retry:
        lines.append("retry-after: 10")
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + body


def guarded(base: type[SinkProtocol], connections: Connections) -> type[SinkProtocol]:
    """The protocol class for uvicorn."""

    class GuardedProtocol(base):  # type: ignore[valid-type,misc]
        _address: str | None = None
        _timer: asyncio.TimerHandle | None = None
        _head = False  # a request has begun whose headers are not complete
        _began = False  # with the data that came last
        _body = 0
        _framing = 0
        _rest: int | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            address = address_of({"client": self.client})
            refused = connections.enter(address)
            if refused is None:
                self._address = address
                self._wait_for_head()
            else:
                self._refuse(ProblemError(refused, REASONS[refused].meaning))

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop_waiting()
            if self._address is not None:
                connections.leave(self._address)
                self._address = None

        def data_received(self, data: bytes) -> None:
            if self._rest is not None:
                self._rest -= len(data)
                if self._rest < 0:
                    self.transport.abort()
                    return
            body, self._began = self._body, False
            super().data_received(data)
            if self.transport.is_closing():
                return
            self._framing = 0 if self._began else self._framing + len(data) - (self._body - body)
            if self._framing > MAX_HEAD_BYTES + self._body:
                self._refuse(ProblemError("bad-request", f"more than {MAX_HEAD_BYTES} bytes around a request's body"))
            elif self._head or self._is_idle():
                self._wait_for_head()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head = self._began = True
            self._body = 0

        def on_headers_complete(self) -> None:
            self._head = False
            self._stop_waiting()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._body += len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            if self._rest is not None:
                self._rest = None
                self._stop_waiting()
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
                self._rest = MAX_REST_BYTES
                self._wait_for_head()

        def send_400_response(self, msg: str) -> None:
            self._refuse(ProblemError("bad-request", msg))

        def _is_idle(self) -> bool:
            """Nothing has begun, though something has come: empty lines, which end the server's own waiting."""
            return self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete)

        def _wait_for_head(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(connections.stalled_after_s, self._too_late)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _too_late(self) -> None:
            self._timer = None
            self.transport.abort()

        def _refuse(self, error: ProblemError) -> None:
            if not self.transport.is_closing():
                self.transport.write(_problem(error))
                self.transport.close()

    return GuardedProtocol
