"""Sockets that count what this process writes and reads and what the kernel carries, if asked as slowly as a thin link.

TLS runs above the counting, over memory buffers: so an emulated link shapes what really crosses it, and a session is
resumed when a connection has to be opened again.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import httpcore

from thinwire.machine.tcp import tcp_info

from .emulated import Pacer
from .polling import SHORTEST_POLL_S
from .standstill import Standstill

_LOOKS: Final = 16
"""How often within a timeout it is looked whether anything has moved."""
_PROBE_EVERY_S: Final = 10
_PROBES: Final = 3
_NOT_YET, _NO_MORE = 9, 10
"""OpenSSL's codes of certificates that are not valid at this time."""
_Found = TypeVar("_Found")


class UntrustedError(Exception):
    """The peer's certificate is not one of those this client trusts. Asking again cannot help, unless it is
    `early`: not valid yet by the clock of this device, which may not have been set since it started.
    """

    def __init__(self, host: str, error: ssl.SSLCertVerificationError) -> None:
        self.early = error.verify_code == _NOT_YET
        said = f"the certificate of {host} is not trusted: {error.verify_message}"
        if error.verify_code in (_NOT_YET, _NO_MORE):
            said += f"; by this device's clock it is {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        super().__init__(said)


@dataclass(slots=True)
class Counts:
    """Bytes in each direction."""

    sent: int = 0
    received: int = 0


class CountingBackend(httpcore.NetworkBackend):
    """Opens connections for httpcore. `pacer`: of an emulated link."""

    def __init__(self, pacer: Pacer | None = None) -> None:
        self.process = Counts()
        self.connections = 0
        self._closed = Counts()
        self._open: set[CountingStream] = set()
        self._pacer = pacer
        self._sessions: dict[str, ssl.SSLSession] = {}
        self.step: Callable[[], None] = lambda: None
        """Called at each look whether a connection has moved: whoever waits there does not hang."""
        self.keepalive_s = SHORTEST_POLL_S
        """After how long without a byte the kernel asks whether the peer is there; ends connections that are dead."""

    def kernel(self) -> Counts:
        """The kernel's counts over all connections so far."""
        found = Counts(self._closed.sent, self._closed.received)
        for stream in self._open:
            counts = stream.kernel()
            found.sent += counts.sent
            found.received += counts.received
        return found

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        if self._pacer is not None:
            self._pacer.turn()
        try:
            source = None if local_address is None else (local_address, 0)
            connection = socket.create_connection((host.strip("[]"), port), timeout, source_address=source)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPINTVL"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        if self._pacer is not None and (window := self._pacer.window) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        stream = CountingStream(connection, self, self._pacer)
        self._open.add(stream)
        self.connections += 1
        return stream

    def session(self, host: str) -> ssl.SSLSession | None:
        return self._sessions.get(host)

    def keep_session(self, host: str, session: ssl.SSLSession | None) -> None:
        if session is not None:
            self._sessions[host] = session

    def closed(self, stream: CountingStream, counts: Counts) -> None:
        if stream in self._open:
            self._open.remove(stream)
            self._closed.sent += counts.sent
            self._closed.received += counts.received


class CountingStream(httpcore.NetworkStream):
    """One TCP connection. A timeout is about progress: of one byte, not of the whole.

    The kernel takes far more than a thin link carries at once. So what has left this process may still be on its way
    for many times the timeout, while nothing can be written and no answer can come: that is progress too, as long as
    the peer's kernel confirms bytes.
    """

    def __init__(self, connection: socket.socket, backend: CountingBackend, pacer: Pacer | None) -> None:
        self._connection = connection
        self._backend = backend
        self._pacer = pacer
        self._has_sent = False
        self._keepalive_s = 0

    def kernel(self) -> Counts:
        """Bytes by the kernel's count, without retransmissions; zeros where it keeps none."""
        info = tcp_info(self._connection)
        return Counts() if info is None else Counts(info.sent, info.received)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._pacer is not None and self._has_sent:
            self._pacer.turn()
        self._has_sent = False
        try:
            data = self._patiently(partial(self._connection.recv, max_bytes), timeout)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        self._backend.process.received += len(data)
        if self._pacer is not None and self._pacer.received(len(data)):
            self.close()
            raise httpcore.ReadError("the emulated link was cut")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            piece = rest if self._pacer is None else rest[: self._pacer.piece]
            try:
                size = self._patiently(partial(self._connection.send, piece), timeout)
            except TimeoutError as error:
                raise httpcore.WriteTimeout(str(error)) from error
            except OSError as error:
                raise httpcore.WriteError(str(error)) from error
            self._backend.process.sent += size
            rest = rest[size:]
            self._has_sent = True
            if self._pacer is not None and self._pacer.sent(size):
                self.close()
                raise httpcore.WriteError("the emulated link was cut")

    def _patiently(self, step: Callable[[], _Found], timeout: float | None) -> _Found:
        """What `step` returns. Raises: TimeoutError where nothing has moved for so long; OSError."""
        self._keep_alive()
        self._backend.step()
        if timeout is None:
            self._connection.settimeout(None)
            return step()
        standstill = Standstill(timeout, time.monotonic(), self._confirmed())
        left_s = timeout
        while True:
            self._connection.settimeout(min(left_s, timeout / _LOOKS))
            try:
                return step()
            except TimeoutError as error:
                # With a number it is the kernel's own: the peer answers no probe.
                self._backend.step()
                left_s = standstill.left_s(time.monotonic(), self._confirmed())
                if error.errno is not None or left_s <= 0:
                    raise

    def _keep_alive(self) -> None:
        idle_s = self._backend.keepalive_s
        if idle_s != self._keepalive_s and hasattr(socket, "TCP_KEEPIDLE"):
            self._keepalive_s = idle_s
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)

    def _confirmed(self) -> int | None:
        info = tcp_info(self._connection)
        return None if info is None else info.acknowledged

    def close(self) -> None:
        self._backend.closed(self, self.kernel())
        self._connection.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return TlsStream(self, self._backend, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._connection.fileno() < 0 or bool(select.select([self._connection], [], [], 0)[0])
        return self._connection if info == "socket" else None


class TlsStream(httpcore.NetworkStream):
    """TLS over a counting stream."""

    def __init__(
        self,
        stream: CountingStream,
        backend: CountingBackend,
        context: ssl.SSLContext,
        host: str | None,
        timeout: float | None,
    ) -> None:
        self._stream = stream
        self._backend = backend
        self._host = (host or "").strip("[]")
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=self._host or None, session=backend.session(self._host)
        )
        try:
            self._run(self._tls.do_handshake, timeout)
        except ssl.SSLCertVerificationError as error:
            stream.close()
            raise UntrustedError(self._host, error) from error
        except ssl.SSLError as error:
            stream.close()
            raise httpcore.ConnectError(str(error)) from error

    def _run(self, step: Any, timeout: float | None) -> Any:
        while True:
            wanted = False
            result = None
            try:
                result = step()
            except ssl.SSLWantReadError:
                wanted = True
            if self._outgoing.pending:
                self._stream.write(self._outgoing.read(), timeout)
            if not wanted:
                return result
            data = self._stream.read(1 << 16, timeout)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            found: bytes = self._run(lambda: self._tls.read(max_bytes), timeout)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise httpcore.ReadError(str(error)) from error
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                rest = rest[self._run(lambda part=rest: self._tls.write(part), timeout) :]
        except ssl.SSLError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._backend.keep_session(self._host, self._tls.session)
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        raise httpcore.ConnectError("TLS inside TLS: an https proxy in front of an https coordinator")

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else self._stream.get_extra_info(info)
