"""Every byte of a connection is charged, whatever its peer does: a real server, raw sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.coordinator.wire.books import Sums
from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.charging import Charging
from thinwire.coordinator.wire.connection import Terms, accept
from thinwire.coordinator.wire.guard import Crowd
from thinwire.protocol.bytes import Bytes

BODY = b"y" * 70_000


async def _echo(request: Request) -> Response:
    account = account_of(request)
    account.kind, account.client = "answer", "ann"
    account.uplink_payload = len(await request.body())
    account.downlink_payload = len(BODY)
    return Response(BODY)


async def _hasty(request: Request) -> Response:
    account_of(request).client = "ann"
    return Response(b"no", 413)


async def _broken(request: Request) -> Response:
    account_of(request).client = "ann"
    raise RuntimeError("a defect")


async def _lingering(request: Request) -> Response:
    """Its application goes on after the last byte, until the connection's next request has been answered."""
    account_of(request).kind = "register"
    return Response(b"", background=BackgroundTask(request.app.state.answered.wait))


async def _next(request: Request) -> Response:
    account_of(request).kind = "answer"
    return Response(b"", background=BackgroundTask(request.app.state.answered.set))


@dataclass
class Metered:
    """A server whose connections all end before the books are read."""

    port: int
    books: Sums
    closed: Callable[[], None]

    def talk(self, *pieces: bytes, read: bool = True, reset: bool = False) -> tuple[int, int]:
        """(sent, received) bytes of one connection. `reset`: it ends without having read."""
        received = 0
        with socket.create_connection(("127.0.0.1", self.port)) as peer:
            for piece in pieces:
                peer.sendall(piece)
            if reset:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            elif read:
                peer.shutdown(socket.SHUT_WR)
                while block := peer.recv(1 << 16):
                    received += len(block)
        return sum(map(len, pieces)), received


@pytest.fixture
def metered() -> Iterator[Metered]:
    books = Sums()
    app = Starlette(
        routes=[
            Route("/echo", _echo, methods=["POST"]),
            Route("/hasty", _hasty, methods=["POST"]),
            Route("/lingering", _lingering, methods=["POST"]),
            Route("/next", _next, methods=["POST"]),
            Route("/broken", _broken, methods=["POST"]),
        ]
    )
    app.state.answered = asyncio.Event()
    terms = Terms(books, Crowd(most=100, per_address=100), stalled_after_s=60.0)
    config = uvicorn.Config(
        Charging(app), http=partial(accept, terms), ws="none", lifespan="off", log_config=None,  # type: ignore[arg-type]
        server_header=False, date_header=False, access_log=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()

    def closed() -> None:
        server.should_exit = True
        thread.join()

    try:
        yield Metered(listener.getsockname()[1], books, closed)
    finally:
        closed()
        listener.close()


def _post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def _sum(books: Sums) -> tuple[int, int]:
    total = Bytes.sum(books.held.values())
    return total.uplink, total.downlink


CONVERSATIONS = {
    "one request": [_post("/echo", b"x" * 1000)],
    "kept alive": [_post("/echo", b"x"), _post("/echo", b"x" * 100_000)],
    "pipelined": [_post("/echo", b"x") * 3],
    "byte by byte": [bytes([byte]) for byte in _post("/echo", b"xyz")],
    "not found": [_post("/nothing", b"")],
    "answered early": [_post("/hasty", b"x" * 10_000)],
    "a defect of ours": [_post("/broken", b"x")],
    "no HTTP at all": [b"\x16\x03\x01 hello"],
    "a cut head": [b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-le"],
    "a cut body": [b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n", b"x" * 60],
    "expecting to go on": [_post("/echo", b"x" * 5, "expect: 100-continue")],
    "nothing": [],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_books_have_what_the_socket_carried(metered: Metered, name: str) -> None:
    sent = metered.talk(*CONVERSATIONS[name])
    metered.closed()
    assert _sum(metered.books) == sent


def test_payload_and_framing_apart(metered: Metered) -> None:
    request = _post("/echo", b"x" * 1000)
    _, received = metered.talk(request)
    metered.closed()
    ((key, value),) = metered.books.held.items()
    assert (key, value.requests) == (("", "ann", None, "answer"), 1)
    assert (value.uplink_payload, value.uplink_framing) == (1000, len(request) - 1000)
    assert (value.downlink_payload, value.downlink_framing) == (len(BODY), received - len(BODY))


def test_what_follows_the_last_request_belongs_to_its_client(metered: Metered) -> None:
    with socket.create_connection(("127.0.0.1", metered.port)) as peer:
        peer.sendall(_post("/echo", b"x"))
        received = b""
        while not received.endswith(BODY):
            received += peer.recv(1 << 16)
        peer.sendall(b"POST /echo HTT")
    metered.closed()
    rows = metered.books.held
    assert rows["", "ann", None, "other"].uplink_framing == len(b"POST /echo HTT")


def test_a_reset_connection_charges_all_that_arrived(metered: Metered) -> None:
    request = _post("/echo", b"x" * 1000)
    sent, _ = metered.talk(request, reset=True)
    again, _ = metered.talk(request)
    metered.closed()
    # A reset throws away what the server has not read yet: at most, and only, the first connection's bytes.
    uplink = _sum(metered.books)[0]
    assert again <= uplink <= sent + again


def test_each_request_keeps_its_bytes_where_its_end_overlaps_with_the_next(metered: Metered) -> None:
    first, second = _post("/lingering", b"x" * 500), _post("/next", b"")
    with socket.create_connection(("127.0.0.1", metered.port)) as peer:
        for request in (first, second):
            peer.sendall(request)
            assert peer.recv(1 << 16).startswith(b"HTTP/1.1 200")
    metered.closed()
    rows = {key[3]: value for key, value in metered.books.held.items()}
    assert rows["register"].uplink_framing == len(first)
    assert rows["answer"].uplink_framing == len(second)
    assert rows["register"].downlink_framing == rows["answer"].downlink_framing > 0
