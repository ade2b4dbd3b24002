"""A client's timeouts are about progress: of what it writes, of what is still on its way, of what it reads."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpcore
import pytest

from tests.edge_client.conftest import MakeTransfer
from thinwire.edge_client.link.resumable import download
from thinwire.edge_client.link.transfer import Patience

STALLED_AFTER_S = 0.5
MOVES_S = 0.1
PAYLOAD = bytes(range(256)) * 400
DONE = b"HTTP/1.1 204 No Content\r\n\r\n"


@contextmanager
def peer(*connections: Callable[[socket.socket], None]) -> Iterator[str]:
    """An address where each connection is handled by the next of these."""
    with socket.socket() as listener:
        # What is not read is not confirmed: the peer's kernel holds next to nothing.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            for handle in connections:
                connection, _ = listener.accept()
                with connection:
                    handle(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def head_of(connection: socket.socket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        found += connection.recv(1)
    return found


def test_an_upload_of_which_the_peer_takes_a_little_at_a_time_is_not_cut(make_transfer: MakeTransfer) -> None:
    taken = bytearray()

    def slowly(connection: socket.socket) -> None:
        head_of(connection)
        until = time.monotonic() + 4 * STALLED_AFTER_S
        while len(taken) < len(PAYLOAD):
            taken.extend(connection.recv(4_000))
            if time.monotonic() < until:
                time.sleep(MOVES_S)
        connection.sendall(DONE)

    with peer(slowly) as address:
        transfer = make_transfer(address, Patience(STALLED_AFTER_S))
        with transfer.open("PATCH", "/", {}, PAYLOAD) as response:
            assert response.status == 204
    assert bytes(taken) == PAYLOAD


def test_an_upload_that_stands_still_is_cut(make_transfer: MakeTransfer) -> None:
    cut = threading.Event()

    def never(connection: socket.socket) -> None:
        head_of(connection)
        cut.wait(60)

    with peer(never) as address:
        transfer = make_transfer(address, Patience(STALLED_AFTER_S))
        try:
            with pytest.raises(httpcore.TimeoutException), transfer.open("PATCH", "/", {}, PAYLOAD * 50):
                pass
        finally:
            cut.set()


def test_a_download_that_stands_still_is_cut_and_goes_on_where_it_stopped(
    make_transfer: MakeTransfer, tmp_path: Path
) -> None:
    half = len(PAYLOAD) // 2
    asked: list[bytes] = []

    def halfway(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PAYLOAD))
        for at in range(0, half, half // 8):
            connection.sendall(PAYLOAD[at : min(half, at + half // 8)])
            time.sleep(MOVES_S)
        assert connection.recv(1) == b"", "it hangs up"

    def the_rest(connection: socket.socket) -> None:
        asked.append(head_of(connection))
        last = len(PAYLOAD) - 1
        connection.sendall(
            b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n"
            % (half, last, len(PAYLOAD), len(PAYLOAD) - half)
        )
        connection.sendall(PAYLOAD[half:])

    with peer(halfway, the_rest) as address:
        transfer = make_transfer(address, Patience(STALLED_AFTER_S))
        assert download(transfer, hashlib.sha256(PAYLOAD).digest(), len(PAYLOAD), tmp_path) == PAYLOAD
    assert b"Range: bytes=%d-" % half in asked[0]
