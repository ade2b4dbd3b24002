"""Requests over the thin link: few headers, every byte by the kernel's count."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore

from thinwire.machine.tcp import tcp_info
from thinwire.protocol.messages import MAX_INLINE_BYTES, MAX_MESSAGE_BYTES

UNHEARD: Final = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)
"""A connection that could not be made, broke, or brought nothing in time."""
LARGEST_BODY: Final = MAX_MESSAGE_BYTES + MAX_INLINE_BYTES
_KEEP_ALIVE_S: Final = 650.0
Body = bytes | AsyncIterator[bytes] | None


class _Stream(httpcore.AsyncNetworkStream):
    """A connection whose counts are kept when it closes."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, counting: _Counting) -> None:
        self._inner = inner
        self._counting = counting

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        self._counting.closes(self._inner.get_extra_info("socket"))
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._counting)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Counting(httpcore.AsyncNetworkBackend):
    """Opens connections and counts what crosses them, TLS included."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._open: dict[int, socket.socket] = {}
        self._closed = [0, 0]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        connection = stream.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._open[connection.fileno()] = connection
        return _Stream(stream, self)

    def closes(self, connection: socket.socket) -> None:
        if self._open.pop(connection.fileno(), None) is not None:
            sent, received = _counts(connection)
            self._closed = [self._closed[0] + sent, self._closed[1] + received]

    def crossed(self) -> tuple[int, int]:
        counts = [self._closed, *map(_counts, self._open.values())]
        return sum(one[0] for one in counts), sum(one[1] for one in counts)


def _counts(connection: socket.socket) -> tuple[int, int]:
    info = tcp_info(connection)
    return (0, 0) if info is None else (info.sent, info.received)


class Link:
    """To the coordinator at `address`. `stalled_after_s`: without one byte, beyond what a request may rest."""

    def __init__(self, address: str, *, tls: ssl.SSLContext | None, stalled_after_s: float) -> None:
        self.address = address.rstrip("/")
        self._host = urlsplit(address).netloc
        self._stalled_after_s = stalled_after_s
        self._counting = _Counting()
        # A connection for each device that waits.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls, max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEP_ALIVE_S,
            network_backend=self._counting,
        )  # fmt: skip

    def crossed(self) -> tuple[int, int]:
        """Bytes up and down so far, by the kernel's count; zeros where it keeps none."""
        return self._counting.crossed()

    @asynccontextmanager
    async def open(
        self, method: str, path: str, headers: Mapping[str, str], body: Body = None, *, rests_s: float = 0.0
    ) -> AsyncIterator[httpcore.Response]:
        """One request; its response's body is still to be read. Raises: `UNHEARD`."""
        sent = [("Host", self._host), *headers.items()]
        if isinstance(body, bytes) or (body is None and method in ("POST", "PATCH")):
            sent.append(("Content-Length", str(len(body or b""))))
        stalled = self._stalled_after_s
        limits = {"connect": stalled, "write": stalled, "read": stalled + rests_s, "pool": stalled}
        address = self.address + path
        asked = {"timeout": limits}
        async with self._pool.stream(method, address, headers=sent, content=body, extensions=asked) as response:
            yield response

    async def close(self) -> None:
        """Nothing is asked any more."""
        await self._pool.aclose()


def plain_headers(response: httpcore.Response) -> dict[str, str]:
    """By lower-case names."""
    return {name.decode("ascii").lower(): value.decode("latin-1") for name, value in response.headers}


async def read_all(response: httpcore.Response) -> bytes:
    """The whole body. Raises: `httpcore.RemoteProtocolError` for one that is larger than any message."""
    body = bytearray()
    async for piece in response.aiter_stream():
        body += piece
        if len(body) > LARGEST_BODY:
            raise httpcore.RemoteProtocolError(f"a response of more than {LARGEST_BODY} bytes")
    return bytes(body)
