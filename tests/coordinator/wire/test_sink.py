"""A body goes where it belongs as it arrives: in order, past memory, and none of it lost with its connection."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tests.coordinator.wire.books import Sums
from thinwire.coordinator.wire.connection import Terms, accept
from thinwire.coordinator.wire.guard import Crowd
from thinwire.coordinator.wire.negotiation import take_body
from thinwire.coordinator.wire.sink import KEPT_BYTES, TAKEN_BYTES

STALLED_AFTER_S = 1.0


async def _taken(request: Request) -> Response:
    """The digest of the body; the state remembers the pieces' sizes, and how the body ended."""
    state, digest = request.app.state, hashlib.sha256()
    state.end = "whole"

    def take(piece: bytes) -> None:
        state.sizes.append(len(piece))
        state.begun.set()
        digest.update(piece)
        if piece.startswith(b"stop"):
            raise ValueError("enough")

    try:
        await take_body(request, take)
    except (ClientDisconnect, TimeoutError, ValueError) as error:
        state.end = type(error).__name__
    state.ended.set()
    return Response(digest.hexdigest(), headers={"connection": "close"})


async def _late(request: Request) -> Response:
    """Takes the body when the test lets it, and answers with what the server had kept until then."""
    await asyncio.to_thread(request.app.state.go_on.wait)
    message = await request.receive()
    kept = len(message["body"])
    while message.get("more_body"):
        message = await request.receive()
    return Response(str(kept), headers={"connection": "close"})


@pytest.fixture
def server() -> Iterator[tuple[int, Any]]:
    app = Starlette(routes=[Route("/", _taken, methods=["POST"]), Route("/late", _late, methods=["POST"])])
    app.state.begun, app.state.ended, app.state.go_on = threading.Event(), threading.Event(), threading.Event()
    app.state.sizes = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        terms = Terms(Sums(), Crowd(most=100, per_address=100), STALLED_AFTER_S)
        config = uvicorn.Config(app, http=partial(accept, terms), lifespan="off", log_config=None)  # type: ignore[arg-type]
        served = uvicorn.Server(config)
        thread = threading.Thread(target=served.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1], app.state
        finally:
            served.should_exit = True
            thread.join()


def _head(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def _rest(raw: socket.socket) -> bytes:
    found = b""
    while piece := raw.recv(1 << 16):
        found += piece
    return found


@pytest.mark.parametrize("size", [0, 1, KEPT_BYTES, 100_000, 3_000_000])
def test_a_body_arrives_whole_and_in_order_however_it_is_cut(server: tuple[int, Any], size: int) -> None:
    port, state = server
    chance = random.Random(size)
    data = _head("/", size) + (body := chance.randbytes(size))
    with socket.create_connection(("127.0.0.1", port)) as raw:
        at = 0
        while at < len(data):
            step = chance.choice((1, 100, 20_000, 1_000_000))
            raw.sendall(data[at : at + step])
            at += step
        assert _rest(raw).endswith(hashlib.sha256(body).hexdigest().encode())
    assert sum(state.sizes) == size
    assert max(state.sizes, default=0) <= TAKEN_BYTES


def test_what_has_arrived_is_taken_though_its_connection_is_gone(server: tuple[int, Any]) -> None:
    port, state = server
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(_head("/", 1_000_000) + bytes(700_000))
    assert state.ended.wait(30)
    assert (state.end, sum(state.sizes)) == ("ClientDisconnect", 700_000)


def test_an_error_of_who_takes_it_ends_the_body(server: tuple[int, Any]) -> None:
    port, state = server
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(_head("/", 1_000_000) + b"begun")
        assert state.begun.wait(30)
        raw.sendall(b"stop" + bytes(100))
        assert state.ended.wait(30)
        assert _rest(raw).startswith(b"HTTP/1.1 200")
    assert (state.end, state.sizes) == ("ValueError", [5, 104])


def test_a_body_that_moves_goes_on_and_one_that_stands_still_ends(server: tuple[int, Any]) -> None:
    port, state = server
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(_head("/", 1_000_000))
        began = time.monotonic()
        while time.monotonic() < began + 2 * STALLED_AFTER_S:
            raw.sendall(b"x")
            assert not state.ended.wait(STALLED_AFTER_S / 10)
        assert state.ended.wait(30)
    assert state.end == "TimeoutError"


def test_of_a_body_that_nobody_has_taken_yet_the_server_keeps_little(server: tuple[int, Any]) -> None:
    port, state = server
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(_head("/late", size := 2_000_000))
        raw.settimeout(0.2)
        sent = 0
        with contextlib.suppress(TimeoutError):  # the kernel takes no more, since nobody reads
            while sent < size:
                sent += raw.send(bytes(min(1 << 16, size - sent)))
        state.go_on.set()
        raw.settimeout(None)
        raw.sendall(bytes(size - sent))
        kept = int(_rest(raw).rpartition(b"\r\n\r\n")[2])
    assert 0 < kept <= (64 << 10) + KEPT_BYTES
