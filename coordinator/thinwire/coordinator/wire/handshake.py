"""TLS: connections are counted when they are accepted, before their keys are agreed, and do not have long for that."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from .kernel import Kernel

HANDSHAKE_S: Final = 10.0
"""From the first byte of a connection to agreed keys."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Raises: OSError, ssl.SSLError, where certificate and key are not to be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class Handshake(asyncio.Protocol):
    """The first protocol of a connection under TLS. `enter`: whether another connection from this transport's peer is
    wanted; `agreed`: gets the transport under TLS, `failed`: that there will be none; `protocol`: what the connection
    speaks inside. Both get the kernel's handle of the connection.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        protocol: asyncio.BufferedProtocol,
        enter: Callable[[asyncio.BaseTransport], bool],
        agreed: Callable[[asyncio.Transport, Kernel], None],
        failed: Callable[[Kernel], None],
    ) -> None:
        self._context = context
        self._protocol = protocol
        self._enter = enter
        self._agreed = agreed
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if not self._enter(transport):
            transport.abort()
            return
        transport.pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._agree(transport, Kernel(transport)))

    def data_received(self, data: bytes) -> None:
        """uvloop reads before it can be told not to."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Before TLS has begun."""
        if self._task is not None:
            self._task.cancel()

    async def _agree(self, transport: asyncio.Transport, kernel: Kernel) -> None:
        loop, inner = asyncio.get_running_loop(), None
        shaking = loop.create_task(
            loop.start_tls(
                transport, self._protocol, self._context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        )
        try:
            await asyncio.sleep(0)
            if self._early:
                # Behind its being told of the transport, before anything else is read.
                loop.call_soon(_feed, transport.get_protocol(), self._early)
            inner = await shaking
        except (OSError, asyncio.CancelledError):
            shaking.cancel()
        if inner is None or inner.is_closing():
            transport.abort()
            self._failed(kernel)
        else:
            self._agreed(inner, kernel)


def _feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    tls = cast(asyncio.BufferedProtocol, protocol)
    while data:
        room = tls.get_buffer(len(data))
        size = min(len(room), len(data))  # type: ignore[arg-type]
        memoryview(room)[:size] = data[:size]
        data = data[size:]
        tls.buffer_updated(size)
