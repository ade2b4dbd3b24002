"""Slow, endless and many: what one connection may cost, and how many there are."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.coordinator.served import Served, free_port, model
from tests.coordinator.test_endpoints import enrolled
from thinwire.coordinator.wire.guard import MAX_HEAD_BYTES, MAX_REST_BYTES

HEAD = b"POST /v1/clients HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PATIENCE_S = 90
"""After which a connection that is still open counts as never closed."""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """It cuts what stands still for a second."""
    served = Served(tmp_path_factory.mktemp("hasty"), free_port(), {"stalled_after_s": 1})
    served.start()
    yield served
    served.kill()
    assert "Traceback" not in served.log, served.log[-5000:]


def _connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S)


def _to_the_end(raw: socket.socket) -> bytes:
    """All that comes until the other end closes; fails where it never does."""
    found = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while piece := raw.recv(1 << 16):
            found += piece
    return found


def _dribble(raw: socket.socket, piece: bytes) -> None:
    """Sends a little again and again, until the other end has had enough."""
    until = time.monotonic() + PATIENCE_S
    raw.settimeout(0.2)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while time.monotonic() < until:
            raw.sendall(piece)
            with contextlib.suppress(TimeoutError):
                if not raw.recv(1 << 16):
                    return
    assert time.monotonic() < until, "it was never cut"


@pytest.mark.parametrize(
    "begins", [b"", b"\r\n", HEAD, b"GET /"], ids=["nothing", "an empty line", "headers", "a line"]
)
def test_a_head_that_does_not_come_is_not_waited_for(hasty: Served, begins: bytes) -> None:
    with _connect(hasty) as raw:
        raw.sendall(begins)
        assert _to_the_end(raw) == b""


@pytest.mark.parametrize("piece", [b"X-Slow: 1\r\n", b"\r\n"], ids=["headers", "empty lines"])
def test_a_head_that_dribbles_is_cut(hasty: Served, piece: bytes) -> None:
    """Slowloris: each byte is progress, the head as a whole is not."""
    with _connect(hasty) as raw:
        if piece != b"\r\n":
            raw.sendall(HEAD)
        _dribble(raw, piece)


def test_a_second_head_that_dribbles_is_cut_too(hasty: Served) -> None:
    with _connect(hasty) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert raw.recv(1 << 16).startswith(b"HTTP/1.1 200")
        _dribble(raw, b"\r\n")


def test_a_body_that_stops_is_a_problem(hasty: Served) -> None:
    with _connect(hasty) as raw:
        raw.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        answer = _to_the_end(raw)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"stood still" in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"X: " + b"x" * (4 * MAX_HEAD_BYTES),
        b"".join(b"X-%d: 1\r\n" % number for number in range(40_000)),
    ],
    ids=["one header", "many headers"],
)
def test_a_head_without_end_is_refused(hasty: Served, sent: bytes) -> None:
    with _connect(hasty) as raw:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(16):
                raw.sendall(HEAD + sent if _ == 0 else sent)
        answer = _to_the_end(raw)
    assert not answer or json.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "bad-request"


def test_what_surrounds_a_body_is_bounded(hasty: Served) -> None:
    """Trailers without end, behind a body that is complete."""
    with _connect(hasty) as raw:
        raw.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for number in range(40_000):
                raw.sendall(b"X-%d: 1\r\n" % number)
        _to_the_end(raw)


@pytest.mark.parametrize("path", [b"/v1/clients", b"/v1/nothing", b"/v1/models", b"/v1/registrations"])
def test_a_body_without_end_is_answered_and_cut(hasty: Served, path: bytes) -> None:
    head = HEAD.replace(b"/v1/clients", path) + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * (1 << 16) + b"\r\n"
    sent, before = 0, resident(hasty)
    with _connect(hasty) as raw:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            raw.sendall(head)
            while sent < 64 * MAX_REST_BYTES:
                raw.sendall(chunk)
                sent += len(chunk)
        answer = _to_the_end(raw)
    assert sent < 64 * MAX_REST_BYTES
    assert not answer or answer.startswith(b"HTTP/1.1 4")
    assert resident(hasty) - before < 32 << 20


def resident(served: Served) -> int:
    """Bytes of memory of the coordinator's process that are no file's."""
    assert served.process is not None
    text = Path(f"/proc/{served.process.pid}/status").read_text()
    return 1024 * int(next(line for line in text.splitlines() if line.startswith("RssAnon")).split()[1])


def test_a_peer_that_reads_nothing_is_cut(hasty: Served) -> None:
    hasty.run(model(1 << 20), cohort=1, name="large")
    client = enrolled(hasty, "reader")
    task = httpx.post(f"{hasty.url}/v1/registrations?wait_s=60", json={}, headers=client, timeout=90).json()
    head = f"GET /v1/payloads/{task['parts'][0]['digest']} HTTP/1.1\r\nHost: localhost\r\n"
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(PATIENCE_S)
        raw.connect(("127.0.0.1", hasty.port))
        raw.sendall(f"{head}Authorization: {client['authorization']}\r\n\r\n".encode())
        assert hasty.process is not None
        until = time.monotonic() + PATIENCE_S
        while _sockets(hasty) > 0 and time.monotonic() < until:
            time.sleep(0.2)
        assert _sockets(hasty) == 0, "it still waits"
        assert len(_to_the_end(raw)) < task["parts"][0]["size"]


def _handles(served: Served) -> int:
    """Of connections, as far as the coordinator's process has any: two for each."""
    assert served.process is not None
    links = [os.readlink(path) for path in Path(f"/proc/{served.process.pid}/fd").iterdir()]
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ours = {
        line.split()[9] for line in lines if line.split()[1].endswith(f":{served.port:04X}") and line.split()[3] != "0A"
    }
    return sum(link in {f"socket:[{inode}]" for inode in ours} for link in links)


def _sockets(served: Served) -> int:
    """Connections of the coordinator."""
    wanted = f":{served.port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(wanted) and line.split()[3] == "01" for line in lines)


def test_one_address_has_so_many_connections(serve: Callable[..., Served]) -> None:
    served = serve(max_connections_per_address=5)
    held = [_connect(served) for _ in range(5)]
    with _connect(served) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = _to_the_end(raw)
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"retry-after: 10" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "too-many-requests"
        assert _handles(served) == 2 * len(held)
    held.pop().close()
    until = time.monotonic() + PATIENCE_S
    while httpx.get(f"{served.url}/healthz").status_code != 200:
        assert time.monotonic() < until
    for one in held:
        one.close()


def test_a_trusted_proxy_is_not_counted_and_its_word_is_taken(serve: Callable[..., Served]) -> None:
    served = serve(max_connections_per_address=2, max_failures_per_address=2, trusted_proxies="127.0.0.1")
    held = [_connect(served) for _ in range(5)]
    wrong = {"authorization": "Bearer wrong"}
    answers = {}
    for address in ("192.0.2.1", "192.0.2.2"):
        headers = {**wrong, "x-forwarded-for": address}
        statuses = [httpx.get(f"{served.url}/v1/clients", headers=headers).status_code for _ in range(3)]
        answers[address] = statuses
    assert answers == {"192.0.2.1": [401, 401, 429], "192.0.2.2": [401, 401, 429]}
    for one in held:
        one.close()
