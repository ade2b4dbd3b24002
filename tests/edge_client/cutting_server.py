"""A small HTTP server that cuts connections: payloads with Range, uploads with tus, and nothing else."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANGS_UP = 0
"""Instead of a status: the request is read, and the connection ends without a word."""


class CuttingServer(ThreadingHTTPServer):
    """`cut_after`: bytes of body, in either direction, after which a connection is closed; None: never.

    `knows_short`: speaks as its script does on the paths of the short form; without it, they are not there, as at a
    coordinator of before, and asking for them is not noted. `largest_body`: of a request that is let through; others
    get the page of a proxy; None: any.

    `requests`: (method, path, headers) of all requests; `bodies`: of those that the script answered, else empty.
    `answers`: status, headers and body to give before anything else, one per request: a script. `connections`: how
    many were opened.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.cut_after: int | None = None
        self.largest_body: int | None = None
        self.knows_short = False
        self.payloads: dict[str, bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.lengths: dict[str, int] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.body_bytes_received = 0
        self.connections = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.requests]


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CuttingServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, format: str, *args: object) -> None:  # the name is the base class's
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _begin(self) -> bool:
        """Notes the request; True where it has been answered already."""
        if not self.server.knows_short and self.path.startswith(("/v1/r?", "/v1/a/")):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self._problem(404, "not-found")
            return True
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        size = int(self.headers.get("content-length", 0))
        if self.server.largest_body is not None and size > self.server.largest_body:
            self.server.bodies.append(b"")
            self.rfile.read(size)
            self._reply(413, {"Content-Type": "text/html"}, b"<html>413 Request Entity Too Large</html>")
            return True
        if not self.server.answers:
            self.server.bodies.append(b"")
            return False
        status, headers, body = self.server.answers.pop(0)
        self.server.bodies.append(self.rfile.read(size))
        if status == HANGS_UP:
            self.close_connection = True
        else:
            self._reply(status, headers, body)
        return True

    def _reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        most = self.server.cut_after
        self.wfile.write(body if most is None else body[:most])
        if most is not None and len(body) > most:
            self.close_connection = True

    def _problem(self, status: int, reason: str) -> None:
        body = json.dumps({"reason": reason, "detail": "as the test wants", "retry": False}).encode()
        self._reply(status, {"Content-Type": "application/json"}, b"" if self.command == "HEAD" else body)

    def do_GET(self) -> None:
        if self._begin():
            return
        payload = self.server.payloads.get(self.path.rpartition("/")[2])
        if payload is None:
            self._problem(404, "payload-not-found")
            return
        asked = self.headers.get("range")
        if asked is None:
            self._reply(200, {}, payload)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        self._reply(206, {"Content-Range": f"bytes {start}-{len(payload) - 1}/{len(payload)}"}, payload[start:])

    def do_POST(self) -> None:
        if self._begin():
            return
        if self.path != "/v1/uploads":
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self._problem(401, "token-invalid")
            return
        upload = secrets.token_hex(4)
        self.server.uploads[upload] = bytearray()
        self.server.lengths[upload] = int(self.headers["upload-length"])
        self._reply(201, {"Location": f"/v1/uploads/{upload}"})

    def do_HEAD(self) -> None:
        if self._begin():
            return
        upload = self.path.rpartition("/")[2]
        if upload in self.server.uploads:
            self._reply(200, {"Upload-Offset": str(len(self.server.uploads[upload]))})
        else:
            self._problem(404, "upload-not-found")

    def do_PATCH(self) -> None:
        if self._begin():
            return
        upload = self.path.rpartition("/")[2]
        into = self.server.uploads.get(upload)
        if into is None:
            self.close_connection = True
            self._problem(404, "upload-not-found")
            return
        if int(self.headers["upload-offset"]) != len(into):
            self.close_connection = True
            self._problem(409, "upload-offset")
            return
        left = int(self.headers["content-length"])
        most = self.server.cut_after
        while left:
            piece = self.rfile.read1(min(left, 1 << 16 if most is None else max(1, most)))
            if not piece:
                break
            into += piece
            left -= len(piece)
            self.server.body_bytes_received += len(piece)
            if most is not None:
                most -= len(piece)
                if most <= 0 and left:
                    self.close_connection = True
                    return
        self._reply(204, {"Upload-Offset": str(len(into))})


@contextmanager
def running() -> Iterator[CuttingServer]:
    """A server in a thread of its own, on a free port of the loopback."""
    with CuttingServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
