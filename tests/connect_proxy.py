"""A proxy as companies have them: it tunnels by CONNECT, for those who have a name and a password."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class ConnectProxy:
    """Lets through to `target`, whatever name it is asked for, who says `name` and `password`. `asked`: the names and
    ports, of whoever was let through; `refused`: how many were not. `host`: where it listens.
    """

    def __init__(self, target: tuple[str, int], name: str, password: str, host: str = "127.0.0.1") -> None:
        self.target = target
        self._expected = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[str] = []
        self.refused = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for end in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            lines = _head(client)
            method, where, _ = lines[0].split(" ", 2)
            given = dict(line.split(": ", 1) for line in lines[1:])
            if method != "CONNECT" or given.get("Proxy-Authorization") != self._expected:
                self.refused += 1
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                client.close()
                return
            self.asked.append(where)
            server = socket.create_connection(self.target)
            self._open.append(server)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Thread(target=_pass, args=(server, client), daemon=True).start()
            _pass(client, server)


def _head(client: socket.socket) -> list[str]:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    return head.decode().strip().split("\r\n")


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
