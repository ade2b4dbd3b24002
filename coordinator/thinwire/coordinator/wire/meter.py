"""Bytes at the transport: every byte that arrives and every byte handed over to be sent, headers included.

Under TLS the transport sees plain text; what the kernel counts beyond it (handshakes, records) is kind `connect`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from thinwire.machine.tcp import TcpInfo
from thinwire.protocol.bytes import Bytes

from .accounting import Account, Books

METER: Final = "thinwire.meter"
"""The key of the connection's `Meter` in the ASGI scope."""


class Meter:
    """The bytes of one connection, and which of them have been charged to `books`.

    `kernel`: what the kernel has counted on this connection so far; None where it does not tell, and over plain TCP,
    where the transport's count is the kernel's. `abort`: ends the connection.
    """

    def __init__(
        self,
        books: Books,
        abort: Callable[[], None],
        kernel: Callable[[], TcpInfo | None] = lambda: None,
    ) -> None:
        self.abort = abort
        self.uplink = 0
        self.downlink = 0
        self._books = books
        self._kernel = kernel
        self._open_requests = 0
        self._lost = False
        self._charged_uplink = 0
        self._charged_downlink = 0
        self._owner = Account()

    @contextlib.contextmanager
    def request(self, account: Account) -> Iterator[None]:
        """While a request is open its bytes are left to it, even if the connection is lost before its end."""
        self._open_requests += 1
        try:
            with self._books.while_open(account, self._uncharged):
                yield
        finally:
            self._open_requests -= 1
            if self._lost:
                self._charge_rest()

    def charge(self, account: Account, seconds: float) -> None:
        """Charges all bytes since the last charge to one request."""
        uplink, downlink = self._take()
        self._books.charge(account, uplink, downlink, seconds)
        if account.client:
            self._owner = account

    def close(self) -> None:
        """The connection is lost: charges what it carried beyond its requests to the client it last served."""
        self._lost = True
        self._charge_rest()
        counted = self._kernel()
        if counted is None:
            return
        uplink, downlink = max(0, counted.received - self.uplink), max(0, counted.sent - self.downlink)
        value = Bytes(requests=1, uplink_framing=uplink, downlink_framing=downlink)
        self._books.record((self._owner.run, self._owner.client, None, "connect"), value)

    def _charge_rest(self) -> None:
        if self._open_requests:
            return
        uplink, downlink = self._take()
        if uplink or downlink:
            value = Bytes(uplink_framing=uplink, downlink_framing=downlink)
            self._books.record(("", self._owner.client, None, "other"), value)

    def _uncharged(self) -> int:
        """Bytes since the last charge, both ways."""
        return self.uplink - self._charged_uplink + self.downlink - self._charged_downlink

    def _take(self) -> tuple[int, int]:
        uplink, downlink = self.uplink - self._charged_uplink, self.downlink - self._charged_downlink
        self._charged_uplink, self._charged_downlink = self.uplink, self.downlink
        return uplink, downlink


class MeteredTransport:
    """A transport that counts what is written to it, tells `wrote`, and is otherwise the one it wraps."""

    def __init__(self, transport: asyncio.Transport, meter: Meter, wrote: Callable[[], None]) -> None:
        self._transport = transport
        self._meter = meter
        self._wrote = wrote

    def write(self, data: bytes) -> None:
        # A closing transport throws away what it is given.
        if not self._transport.is_closing():
            self._meter.downlink += len(data)
        self._transport.write(data)
        self._wrote()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
