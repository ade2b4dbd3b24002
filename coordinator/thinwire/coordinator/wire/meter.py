"""Bytes at the transport: every byte that arrives and every byte handed over to be sent, headers included; corrected by
the kernel's count when the connection ends, since what was handed over need not have crossed.

Under TLS the transport sees plain text; what the kernel counts beyond it (handshakes, records) is kind `connect`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from thinwire.machine.tcp import TcpInfo
from thinwire.protocol.bytes import Bytes

from .accounting import Account, Bill, Books

METER: Final = "thinwire.meter"
"""The key of the connection's `Meter` in the ASGI scope."""
_FEW: Final = 8


class Meter:
    """The bytes of one connection, and which of them have been charged to `books`.

    `kernel`: what the kernel has counted on this connection so far; None where it does not tell. `tls`: whether it sees
    more than the transport. `abort`: ends the connection. `ended` is told, if anybody wants to know, when its peer, or
    the link to it, has ended it.
    """

    def __init__(
        self,
        books: Books,
        abort: Callable[[], None],
        kernel: Callable[[], TcpInfo | None] = lambda: None,
        *,
        tls: bool = False,
    ) -> None:
        self.abort = abort
        self.ended: Callable[[], None] | None = None
        self.uplink = 0
        self.downlink = 0
        self._books = books
        self._kernel = kernel
        self._tls = tls
        self._open_requests = 0
        self._current: Bill | None = None
        # Bills whose bytes may not all have crossed: where in the stream each ends.
        self._behind: deque[tuple[int, Bill]] = deque()
        self._billed_uplink = 0
        self._billed_downlink = 0
        self._owner = ""
        self._lost = False
        self._parted = False
        self._counted: TcpInfo | None = None
        # What the kernel carries beyond the transport: under TLS all the time, else what nobody has read at the end.
        self._beyond = Bill(books, Account(kind="connect" if tls else "other"), requests=int(tls))

    @contextlib.contextmanager
    def request(self, account: Account) -> Iterator[Bill]:
        """While a request is open its bytes are left to its bill, even if the connection is lost before its end."""
        bill = self._current = Bill(self._books, account)
        self._open_requests += 1
        # Whoever asks again has received all that was written before.
        self._charge_beyond(uplink=False)
        try:
            with self._books.while_open(bill, partial(self._unrecorded, bill)):
                yield bill
        finally:
            self._open_requests -= 1
            self._charge_rest()

    def charge(self, bill: Bill, seconds: float) -> None:
        """All bytes since the last request belong to this one, which has ended."""
        self._take(bill)
        bill.end(seconds)
        self._owner = bill.account.client or self._owner
        self._charge_beyond(uplink=True)
        if self._current is bill:
            self._current = None
        self._behind.append((self.downlink, bill))
        if len(self._behind) > _FEW:
            counted = self._kernel()
            crossed = self.downlink if counted is None else counted.sent
            while self._behind and self._behind[0][0] <= crossed:
                self._behind.popleft()

    def charge_open(self) -> None:
        """What has crossed by now of the request that is being served, so that little is forgotten with the process."""
        if self._current is not None and (self._uncharged() or self._current.missing):
            self._take(self._current)
            self._current.charge(self._missing(self._counted if self._lost else self._kernel()))

    def lost(self, *, announced: bool = False) -> None:
        """Nothing more comes from the transport. `announced`: one of both sides had said that this would be its last
        request, as proxies do of every one; so it says nothing of who is there.
        """
        self._lost = True
        self._charge_rest()
        if self.ended is not None and not announced:
            self.ended()

    def parted(self, counted: TcpInfo | None) -> None:
        """The kernel's last word."""
        self._parted, self._counted = True, counted
        self._charge_rest()

    def _charge_rest(self) -> None:
        """What the connection carried beyond its requests goes to the client it last served; what did not cross is
        taken off again, the last bytes first.
        """
        if self._open_requests or not self._lost:
            return
        if self._uncharged():
            rest = Bill(self._books, Account(client=self._owner), requests=0)
            self._take(rest)
            rest.end(0.0)
            self._behind.append((self.downlink, rest))
        if not self._parted:
            return
        missing = self._missing(self._counted)
        while missing and self._behind:
            _, bill = self._behind.pop()
            part = min(missing, bill.downlink)
            bill.charge(part)
            missing -= part
        if self._counted is not None:
            self._beyond.uplink = max(0, self._counted.received - self.uplink)
            self._beyond.downlink = max(0, self._counted.sent - self.downlink)
            self._beyond.account.client = self._owner
            if self._tls or self._beyond.uplink or self._beyond.downlink:
                self._beyond.end(0.0)

    def _charge_beyond(self, *, uplink: bool) -> None:
        """What TLS has added by now, so that little is forgotten with the process. `uplink`: whether all that the
        kernel has received by now has been read.
        """
        counted = self._kernel() if self._tls else None
        if counted is None or not self._owner:
            return
        if uplink:
            self._beyond.uplink = max(self._beyond.uplink, counted.received - self.uplink)
        self._beyond.downlink = max(self._beyond.downlink, counted.sent - self.downlink)
        self._beyond.account.client = self._owner
        self._beyond.charge(0)

    def _missing(self, counted: TcpInfo | None) -> int:
        """Bytes handed over that the kernel has not sent."""
        return 0 if counted is None else max(0, self.downlink - counted.sent)

    def _uncharged(self) -> int:
        """Bytes since the last charge, both ways."""
        return self.uplink - self._billed_uplink + self.downlink - self._billed_downlink

    def _unrecorded(self, bill: Bill) -> Bytes:
        """The same by direction, with what of this bill may yet cross."""
        up, down = self.uplink - self._billed_uplink, self.downlink - self._billed_downlink
        return Bytes(uplink_framing=up, downlink_framing=down + bill.missing)

    def _take(self, bill: Bill) -> None:
        bill.uplink += self.uplink - self._billed_uplink
        bill.downlink += self.downlink - self._billed_downlink
        self._billed_uplink, self._billed_downlink = self.uplink, self.downlink


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
