"""A TCP proxy that counts: the independent witness of every byte figure."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

BLOCK = 1 << 16


class CountingProxy:
    """Passes every connection on to `url` and counts what passes, per connection and in all.

    `uplink`, `downlink`: bytes read from the clients and from the server. Ends of streams are passed on too.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._target = (parts.hostname, parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.uplink = 0
        self.downlink = 0
        self.connections = 0
        self.url = f"{parts.scheme}://localhost:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Shutting down wakes the thread that waits in accept; closing would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    @property
    def total(self) -> tuple[int, int]:
        """(uplink, downlink) so far."""
        with self._lock:
            return self.uplink, self.downlink

    def cut(self) -> None:
        """Breaks all connections there are."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, client)

    def _connect(self) -> socket.socket:
        return socket.create_connection(self._target)

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:
            client.close()
            return
        with self._lock:
            self._open += [client, server]
        down = threading.Thread(target=self._pump, args=(server, client, False), daemon=True)
        down.start()
        self._pump(client, server, True)
        down.join()
        with self._lock:
            self._open.remove(client)
            self._open.remove(server)
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        try:
            while block := source.recv(BLOCK):
                with self._lock:
                    self.uplink += len(block) if up else 0
                    self.downlink += 0 if up else len(block)
                sink.sendall(block)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # Whichever end is gone, the other must learn of it.
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
