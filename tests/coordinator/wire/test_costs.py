"""What one connection, one address, one token can cost, line by line as `docs/security.md` says it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.coordinator.served import Served, free_port, model
from tests.coordinator.test_endpoints import enrolled
from tests.coordinator.wire.test_connection import HEAD, resident
from thinwire.coordinator.wire.connection import MAX_HEADERS
from thinwire.coordinator.wire.guard import MAX_HEAD_BYTES
from thinwire.coordinator.wire.handshake import HANDSHAKE_S
from thinwire.coordinator.wire.kernel import UNSENT_BYTES
from thinwire.coordinator.wire.negotiation import STRANGERS_BYTES
from thinwire.coordinator.wire.sparing import EVERY_S, SparingLogger

MANY = 400
STRANGER_BYTES = 64 << 10
"""Of memory, for one connection of a stranger, whatever it does."""
READER_BYTES = 1 << 20
"""Of memory, for one download that is not read."""
PATIENCE_S = 60
READERS = 40


def _connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S)


def _answer(raw: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while piece := raw.recv(1 << 16):
            found += piece
    return found


def _reason(answer: bytes) -> str:
    reason: str = json.loads(answer.partition(b"\r\n\r\n")[2])["reason"]
    return reason


STALLED = {
    "a body that is to be large": HEAD + b"Content-Length: 262144\r\n\r\n" + b" " * 200_000,
    "a body without a length": HEAD + b"Transfer-Encoding: chunked\r\n\r\n30000\r\n" + b" " * 150_000,
    "a body that is small": HEAD + b"Content-Length: 4000\r\n\r\n" + b" " * 3_900,
    "a body nobody asked for": b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nVia: x\r\nContent-Length: 262144\r\n\r\n"
    + b" " * 200_000,
    "a head": HEAD + b"X: " + b"x" * (MAX_HEAD_BYTES - 200),
    "nothing": b"",
}


@pytest.mark.parametrize("sent", STALLED.values(), ids=STALLED)
def test_a_stranger_s_connection_costs_little_memory(serve: Callable[..., Served], sent: bytes) -> None:
    served = serve()
    httpx.get(f"{served.url}/v1/runs")
    before = resident(served)
    with ExitStack() as held:
        for _ in range(MANY):
            raw = held.enter_context(_connect(served))
            raw.setblocking(False)
            with contextlib.suppress(OSError):
                raw.send(sent)
        assert httpx.get(f"{served.url}/healthz", timeout=PATIENCE_S).status_code == 200
        assert resident(served) - before < MANY * STRANGER_BYTES


def test_a_stranger_s_body_is_short(standing: Served) -> None:
    for size, reason in ((STRANGERS_BYTES, "bad-message"), (STRANGERS_BYTES + 1, "message-too-large")):
        response = httpx.post(f"{standing.url}/v1/clients", content=b"{}".ljust(size))
        assert response.json()["reason"] == reason
    known = httpx.post(f"{standing.url}/v1/invites", content=b"{}".ljust(10_000), headers=standing.operator)
    assert known.status_code == 201


@pytest.mark.parametrize(("lines", "status"), [(MAX_HEADERS - 1, 200), (MAX_HEADERS, 400), (15_000, 400)])
def test_a_head_has_so_many_lines(standing: Served, lines: int, status: int) -> None:
    with _connect(standing) as raw:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"A: 1\r\n" * (lines - 1))
            raw.sendall(b"Connection: close\r\n\r\n")
        answer = _answer(raw)
    # A reset may come before the answer has been read, where more had been sent than was.
    assert answer.startswith(f"HTTP/1.1 {status}".encode()) or (lines > 1_000 and not answer)


def test_what_follows_a_body_has_no_more_lines(standing: Served) -> None:
    with _connect(standing) as raw:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            raw.sendall(
                HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + b"A: 1\r\n" * MAX_HEADERS + b"\r\n"
            )
        assert b"HTTP/1.1 400" in _answer(raw)


class Secure(Served):
    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """It serves TLS, and takes five connections of an address."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the test's certificate, is not on this machine")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    options = {"certificate": str(certificate), "key": str(key), "max_connections_per_address": 5}
    served = Secure(tmp_path / "data", free_port(), options)
    served.data_dir.mkdir()
    served.start()
    yield served
    served.kill()


def _shaken(served: Served) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(_connect(served))


def test_under_tls_connections_count_from_accept_on_and_shake_hands_or_go(secure: Served) -> None:
    """Those who say nothing, and those who say what is no TLS, shut others out for seconds, not for ever."""
    with ExitStack() as held:
        silent = [held.enter_context(_connect(secure)) for _ in range(4)]
        with _shaken(secure) as fifth:
            fifth.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert fifth.recv(1 << 16).startswith(b"HTTP/1.1 200")
            with pytest.raises((ssl.SSLError, ConnectionError)), _shaken(secure):
                raise AssertionError("a sixth one was taken")
        began = time.monotonic()
        assert {_answer(one) for one in silent} == {b""}
        assert time.monotonic() - began < HANDSHAKE_S + PATIENCE_S / 2
        with _connect(secure) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert not _answer(plain).startswith(b"HTTP")
        with _shaken(secure) as again:
            again.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert again.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert "Traceback" not in secure.log


@pytest.mark.parametrize("what", ["the model", "a payload"])
def test_what_is_not_read_is_not_held(serve: Callable[..., Served], what: str) -> None:
    served = serve(max_requests_per_client=10_000)
    arrays = model(500_000)  # 8 MB
    run = served.run(arrays, rounds=1, cohort=1)["id"]
    client = enrolled(served, "reader")
    task = httpx.post(f"{served.url}/v1/registrations?wait_s=60", json={}, headers=client, timeout=90).json()
    path = f"/v1/runs/{run}/model" if what == "the model" else f"/v1/payloads/{task['parts'][0]['digest']}"
    whole = httpx.get(f"{served.url}{path}", headers=client, timeout=PATIENCE_S).content
    assert len(whole) > 6_000_000
    before = resident(served)
    with ExitStack() as held:
        opened = []
        for _ in range(READERS):
            raw = held.enter_context(socket.socket())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.settimeout(PATIENCE_S)
            raw.connect(("127.0.0.1", served.port))
            lines = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {client['authorization']}\r\n"
            raw.sendall(f"{lines}Connection: close\r\n\r\n".encode())
            opened.append(raw)
        for raw in opened:
            assert raw.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert resident(served) - before < READERS * READER_BYTES
        assert _answer(opened[0]).endswith(whole[-1000:])
    until = time.monotonic() + PATIENCE_S
    while list((served.data_dir / "downloads").iterdir()):
        assert time.monotonic() < until, "copies stay"
        time.sleep(0.05)


def test_the_kernel_holds_little_of_what_is_not_read() -> None:
    assert UNSENT_BYTES <= 128 << 10


def test_strangers_do_not_fill_the_log(serve: Callable[..., Served]) -> None:
    served = serve()
    before = len(served.log)
    for _ in range(200):
        with _connect(served) as raw:
            raw.sendall(b"\x16\x03\x01 hello")
            _answer(raw)
        with _connect(served) as raw:
            raw.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
            )
            _answer(raw)
    assert len(served.log) - before < 2_000


def test_what_was_kept_out_of_the_log_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = SparingLogger("uvicorn.error", lambda: now)
    for _ in range(5):
        log.warning("no HTTP")
    log.error("a defect")
    log.error("a defect")
    now = EVERY_S
    log.warning("no HTTP")
    assert caplog.messages == ["no HTTP", "a defect", "a defect", "no HTTP (4 more since the last line)"]
