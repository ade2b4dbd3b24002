"""Bytes at the transport: every byte that arrives and every byte handed over to be sent, headers included.

Under TLS the transport sees plain text; what the kernel counts beyond it (handshakes, records) is kind `connect`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from .ledger import Account, Key, Ledger, Tally
from .reading import SinkProtocol
from .stalls import StallWatch

METER: Final = "thinwire.meter"
"""The key of the connection's `Meter` in the ASGI scope."""

_TCP_INFO_BYTES: Final = 256
_RECEIVED, _SENT, _RETRANSMITTED = 128, 200, 208
_CLOSE_WAIT, _LAST_ACK, _CLOSING = 8, 9, 11


class Meter:
    """The bytes of one connection, and which of them have been charged.

    `kernel`: what the kernel has (received, sent) on this connection so far; None where it does not tell, and over
    plain TCP, where the transport's count is the kernel's. `abort`: ends the connection.
    """

    def __init__(
        self,
        kernel: Callable[[], tuple[int, int] | None] | None = None,
        abort: Callable[[], None] = lambda: None,
    ) -> None:
        self.abort = abort
        self.uplink = 0
        self.downlink = 0
        self._open_requests = 0
        self._lost = False
        self._charged_uplink = 0
        self._charged_downlink = 0
        self._connect_uplink = 0
        self._connect_downlink = 0
        self._owner = Account()
        self._kernel = kernel

    @contextlib.contextmanager
    def request(self, ledger: Ledger) -> Iterator[None]:
        """While a request is open its bytes are left to it, even if the connection is lost before its end."""
        self._open_requests += 1
        try:
            yield
        finally:
            self._open_requests -= 1
            if self._lost:
                self._charge_rest(ledger)

    def charge(self, ledger: Ledger, account: Account, seconds: float) -> None:
        """Charges all bytes since the last charge to one request."""
        uplink, downlink = self._take()
        ledger.charge(account, uplink, downlink, seconds)
        if account.client:
            self._owner = account

    def uncharged(self) -> int:
        """Bytes since the last charge, both ways."""
        return self.uplink - self._charged_uplink + self.downlink - self._charged_downlink

    def close(self, ledger: Ledger) -> None:
        """The connection is lost: charges what it carried beyond its requests to the client it last served."""
        self._lost = True
        self._charge_rest(ledger)
        counted = self._kernel() if self._kernel else None
        if counted is None:
            return
        received, sent = counted
        uplink, downlink = max(0, received - self.uplink), max(0, sent - self.downlink)
        connect: Key = (self._owner.run, self._owner.client, None, "connect")
        ledger.record(connect, Tally(requests=1, uplink_framing=uplink, downlink_framing=downlink))

    def _charge_rest(self, ledger: Ledger) -> None:
        if self._open_requests:
            return
        uplink, downlink = self._take()
        if uplink or downlink:
            other: Key = ("", self._owner.client, None, "other")
            ledger.record(other, Tally(uplink_framing=uplink, downlink_framing=downlink))

    def _take(self) -> tuple[int, int]:
        uplink, downlink = self.uplink - self._charged_uplink, self.downlink - self._charged_downlink
        self._charged_uplink, self._charged_downlink = self.uplink, self.downlink
        return uplink, downlink


def kernel_count(raw: socket.socket) -> tuple[int, int] | None:
    """(received, sent) bytes of a TCP connection as its kernel counts them, without retransmissions; None where it
    does not tell (Linux does, from 4.19 on).
    """
    try:
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        received, sent, again = (struct.unpack_from("Q", info, at)[0] for at in (_RECEIVED, _SENT, _RETRANSMITTED))
    except (AttributeError, OSError, struct.error):
        return None
    # The end of the peer's stream counts as one byte received, though none was sent.
    return received - (info[0] in (_CLOSE_WAIT, _LAST_ACK, _CLOSING)), sent - again


class MeteredTransport:
    """A transport that counts what is written to it, has it watched, and is otherwise the one it wraps."""

    def __init__(self, transport: asyncio.Transport, meter: Meter, watch: StallWatch) -> None:
        self._transport = transport
        self._meter = meter
        self._watch = watch

    def write(self, data: bytes) -> None:
        # A closing transport throws away what it is given.
        if not self._transport.is_closing():
            self._meter.downlink += len(data)
        self._transport.write(data)
        self._watch.wrote()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def metered_protocol(ledger: Ledger, stalled_after_s: float) -> type[SinkProtocol]:
    """The protocol class for uvicorn: counts every byte, puts a `Meter` into the scope of each request, and cuts
    connections whose peer reads nothing for so long.
    """

    class MeteredProtocol(SinkProtocol):
        _raw: socket.socket | None = None
        _meter: Meter
        _watch: StallWatch

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            if transport.get_extra_info("sslcontext") is not None:
                # A handle of our own: the transport has closed its own when the last bytes are to be counted.
                raw = self._raw = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
                self._meter = Meter(lambda: kernel_count(raw), transport.abort)
            else:
                self._meter = Meter(abort=transport.abort)
            self._watch = StallWatch(transport, stalled_after_s)
            super().connection_made(MeteredTransport(transport, self._meter, self._watch))  # type: ignore[arg-type]

        def data_received(self, data: bytes) -> None:
            self._meter.uplink += len(data)
            super().data_received(data)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope[METER] = self._meter  # type: ignore[typeddict-unknown-key]

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._watch.end()
            self._meter.close(ledger)
            if self._raw is not None:
                self._raw.close()

    return MeteredProtocol
