"""An HTTP server of this process, on the loopback, that keeps what it is sent."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Received:
    """One request; names of headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`answer`: the status of each request, by what it is; what it raises cuts the connection."""

    answer: Callable[[Received], int] = lambda _: 204
    received: queue.Queue[Received] = field(default_factory=queue.Queue)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next(self) -> Received:
        """The next request, waited for."""
        return self.received.get(timeout=PATIENCE_S)


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    """Takes requests meanwhile; at the same port as before, where it had one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            found = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            status = receiver.answer(found)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"{receiver.url}/elsewhere")
            if status != 204:
                self.send_header("content-length", "0")
            self.end_headers()
            receiver.received.put(found)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", receiver.port), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
