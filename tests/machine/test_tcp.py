"""The kernel's counts of a connection are the bytes that the program wrote and read."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from thinwire.machine.tcp import tcp_info, unsent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="this kernel keeps no such counts")
_ESTABLISHED, _CLOSE_WAIT = 1, 8


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    with one, other:
        yield one, other


def read(connection: socket.socket, size: int) -> None:
    while size:
        size -= len(connection.recv(size))


def test_each_byte_is_counted_once_in_each_direction(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    one.sendall(bytes(70_000))
    read(other, 70_000)
    other.sendall(bytes(30))
    read(one, 30)
    mine, theirs = tcp_info(one), tcp_info(other)
    assert mine is not None
    assert theirs is not None
    assert (mine.sent, mine.received, mine.state) == (70_000, 30, _ESTABLISHED)
    assert (theirs.sent, theirs.received, theirs.state) == (30, 70_000, _ESTABLISHED)
    # The answer carried the acknowledgement of what it answers.
    assert mine.acknowledged == 70_000
    assert unsent(one) == 0


def test_the_end_of_the_peers_stream_is_no_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    one.sendall(b"last words")
    one.shutdown(socket.SHUT_WR)
    read(other, 10)
    assert other.recv(1) == b""
    ended = tcp_info(other)
    assert ended is not None
    assert (ended.received, ended.state) == (10, _CLOSE_WAIT)


def test_what_nobody_reads_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    one, _ = pair
    one.setblocking(False)
    written = 0
    try:
        while True:
            written += one.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    waiting, info = unsent(one), tcp_info(one)
    assert waiting
    assert info is not None
    assert info.acknowledged < written


def test_where_the_kernel_keeps_no_counts_there_are_none() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as no_tcp:
        assert tcp_info(no_tcp) is None
    assert tcp_info(no_tcp) is None
    assert unsent(no_tcp) is None
