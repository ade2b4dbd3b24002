"""A proxy on real sockets that breaks every connection after so many bytes in a direction."""

from __future__ import annotations

import contextlib
import socket

from benchmarks.counting_proxy import BLOCK, CountingProxy


class CuttingProxy(CountingProxy):
    """`cut_up`, `cut_down`: bytes of one connection after which both its ends are closed; None: never.

    What was read up to there is passed on, nothing behind it. `most_connections`: later ones are closed at once: the
    link is down. `window`: what its kernel takes in ahead of it, from either end; None: as usual, which may be millions
    that are lost with a cut and were never read.
    """

    def __init__(
        self, url: str, *, cut_up: int | None = None, cut_down: int | None = None, window: int | None = None
    ) -> None:
        super().__init__(url)
        self._window = window
        if window is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.cut_up = cut_up
        self.cut_down = cut_down
        self.most_connections: int | None = None
        self.cuts = 0

    def _connect(self) -> socket.socket:
        server = socket.socket()
        if self._window is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window)
        try:
            server.connect(self._target)
        except OSError:
            server.close()
            raise
        return server

    def _serve(self, client: socket.socket) -> None:
        if self.most_connections is not None and self.connections > self.most_connections:
            client.close()
            return
        super()._serve(client)

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        left = self.cut_up if up else self.cut_down
        if left is None:
            super()._pump(source, sink, up)
            return
        with contextlib.suppress(OSError):
            while left and (block := source.recv(min(BLOCK, left))):
                with self._lock:
                    self.uplink += len(block) if up else 0
                    self.downlink += 0 if up else len(block)
                    self.cuts += left == len(block)
                sink.sendall(block)
                left -= len(block)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
