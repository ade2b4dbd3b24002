"""The ledger says what crossed, whatever is cut or killed: beside what the other end's kernel has counted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, model
from thinwire.machine.tcp import tcp_info
from thinwire.protocol.messages import AnswerMessage

CUTS = 20
PATIENCE_S = 60
LARGE = model(200_000)
SIZE = 3_000_000
"""Bytes of an answer; the model has a few more."""

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="this kernel does not say what was confirmed")


@contextmanager
def _asked(served: Served, head: str, token: dict[str, str], buffer: int | None = None) -> Iterator[socket.socket]:
    with socket.socket() as raw:
        if buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        raw.settimeout(PATIENCE_S)
        raw.connect(("127.0.0.1", served.port))
        lines = [f"{head} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in token.items()), "", ""]
        raw.sendall("\r\n".join(lines).encode())
        yield raw


def _crossed(raw: socket.socket) -> tuple[int, int]:
    """(up, down) by this end's kernel."""
    counted = tcp_info(raw)
    assert counted is not None
    return counted.sent, counted.received


def _came_to_rest(raw: socket.socket) -> tuple[int, int]:
    """The same once nothing more comes, since nobody reads: what comes between counting and cutting is nobody's."""
    before, since, until = _crossed(raw), time.monotonic(), time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        time.sleep(0.02)
        now = _crossed(raw)
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > 0.3:
            return now
    raise AssertionError("it never came to rest")


async def _begun(served: Served) -> tuple[NumpyClient, bytes, str]:
    """A client with a task; the digest of its broadcast, and where its answer goes: an upload of 3.2 MB."""
    async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE_S) as http:
        client = NumpyClient(http, "client-00")
        await client.enrol(served.invite())
        message = await client.register()
        assert message is not None
        part = max(message.parts, key=lambda part: part.size or 0)
        assert part.digest is not None
        created = await client.create_upload(message.task, bytes(SIZE))
        return client, part.digest, created.headers["location"]


def _rows(served: Served, run: str, kinds: set[str]) -> tuple[int, int]:
    rows = [row for row in served.get(f"/v1/runs/{run}/ledger").json()["rows"] if row["kind"] in kinds]
    assert all(value >= 0 for row in rows for name, value in row.items() if name.endswith("_bytes")), rows
    up = sum(row["uplink_payload_bytes"] + row["uplink_framing_bytes"] for row in rows)
    return up, sum(row["downlink_payload_bytes"] + row["downlink_framing_bytes"] for row in rows)


def _stored(served: Served) -> tuple[int, int]:
    """What the database has by now of answers and payloads."""
    sums = (
        "SELECT sum(uplink_payload_bytes + uplink_framing_bytes), sum(downlink_payload_bytes + downlink_framing_bytes)"
    )
    with contextlib.closing(sqlite3.connect(f"file:{served.data_dir}/thinwire.db?mode=ro", uri=True)) as database:
        up, down = database.execute(f"{sums} FROM ledger WHERE kind IN ('payload', 'answer')").fetchone()
    return up or 0, down or 0


def _settled(served: Served, run: str, kinds: set[str]) -> tuple[int, int]:
    """What the ledger says when it says the same for a while, without an open connection."""
    before, since, until = (-1, -1), time.monotonic(), time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        now = _rows(served, run, kinds)
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > 1:
            return now
        time.sleep(0.1)
    raise AssertionError("it never came to rest")


@pytest.mark.parametrize(
    ("how", "buffer"),
    [
        pytest.param("reset", None, id="reset by a usual reader"),
        pytest.param("closed", 8_192, id="closed by a small one"),
        pytest.param("closed", None, id="closed by a usual reader", marks=pytest.mark.long),
        pytest.param("reset", 8_192, id="reset by a small one", marks=pytest.mark.long),
    ],
)
def test_of_a_download_that_is_cut_counts_what_crossed(
    serve: Callable[..., Served], buffer: int | None, how: str
) -> None:
    served = serve()
    run = served.run(LARGE, rounds=1, cohort=1, evaluate=False)["id"]
    client, digest, _ = asyncio.run(_begun(served))
    before = _settled(served, run, {"payload"})
    up = down = 0
    for number in range(CUTS):
        with _asked(served, f"GET /v1/payloads/{digest.hex()}", client.auth, buffer) as raw:
            left = 5_000 * (1 + number)
            while left > 0:
                left -= len(raw.recv(min(left, 65_536)))
            if how == "reset":
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            crossed = _came_to_rest(raw)
        up, down = up + crossed[0], down + crossed[1]
    found = _settled(served, run, {"payload"})
    assert found[0] - before[0] == up
    assert found[1] - before[1] == pytest.approx(down, rel=0.01)


def test_of_an_upload_that_is_cut_counts_what_crossed(serve: Callable[..., Served]) -> None:
    served = serve()
    run = served.run(LARGE, rounds=1, cohort=1, evaluate=False)["id"]
    client, _, location = asyncio.run(_begun(served))
    before = _settled(served, run, {"answer", "other"})
    up = down = sent = 0
    for number in range(CUTS):
        head = {
            **client.auth, "Tus-Resumable": "1.0.0", "Upload-Offset": str(sent),
            "Content-Type": "application/offset+octet-stream", "Content-Length": str(SIZE - sent),
        }  # fmt: skip
        with _asked(served, f"PATCH {location}", head) as raw:
            raw.sendall(bytes(5_000 * (1 + number)))
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65_536):
                pass
            counted = _crossed(raw)
        up, down, sent = up + counted[0], down + counted[1], sent + 5_000 * (1 + number)
    found = _settled(served, run, {"answer", "other"})
    assert found[0] - before[0] == up


def test_a_killed_coordinator_has_charged_what_open_requests_carried(serve: Callable[..., Served]) -> None:
    """Those that last: here longer than it takes to charge and to store."""
    served = serve()
    run = served.run(LARGE, rounds=1, cohort=1, evaluate=False)["id"]
    client, digest, location = asyncio.run(_begun(served))
    before = _settled(served, run, {"payload", "answer"})
    head = {
        **client.auth, "Tus-Resumable": "1.0.0", "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream", "Content-Length": str(SIZE),
    }  # fmt: skip
    with (
        _asked(served, f"GET /v1/payloads/{digest.hex()}", client.auth, 8_192) as reader,
        _asked(served, f"PATCH {location}", head) as writer,
    ):
        writer.sendall(bytes(300_000))
        left = 300_000
        while left > 0:
            left -= len(reader.recv(min(left, 8_192)))
        up, down = (sum(counts) for counts in zip(_crossed(reader), _crossed(writer), strict=True))
        until = time.monotonic() + PATIENCE_S
        found = (0, 0)
        while found[0] < before[0] + up or found[1] < before[1] + 0.99 * down:
            assert time.monotonic() < until, (found, up, down)
            time.sleep(0.2)
            found = _stored(served)
        served.kill()
    served.start()
    now = _settled(served, run, {"payload", "answer"})
    assert now[0] - before[0] == up
    assert now[1] - before[1] == pytest.approx(down, rel=0.01)


def test_revocation_lets_nothing_more_cross(serve: Callable[..., Served]) -> None:
    """With the connection goes what the kernel still held."""
    served = serve()
    served.run(LARGE, rounds=1, cohort=1, evaluate=False)
    client, digest, _ = asyncio.run(_begun(served))
    with _asked(served, f"GET /v1/payloads/{digest.hex()}", client.auth, 8_192) as raw:
        raw.recv(1_000)
        assert httpx.delete(f"{served.url}/v1/clients/{client.name}", headers=served.operator).status_code == 204
        received, over = 1_000, b"?"
        with contextlib.suppress(ConnectionResetError):
            while over:
                over = raw.recv(65_536)
                received += len(over)
        assert over, "it ended as if all had been sent"
    assert received < 1 << 20


def test_what_is_answered_early_still_counts_what_was_sent(serve: Callable[..., Served]) -> None:
    served = serve()
    run = served.run(LARGE, rounds=1, cohort=1, evaluate=False)["id"]
    client, _, _ = asyncio.run(_begun(served))
    before = _settled(served, run, {"answer", "other", "register"})
    body = AnswerMessage(examples=1).model_dump_json(exclude_none=True).encode()
    head = {**client.auth, "Content-Type": "application/json", "Content-Length": str(len(body) + 1_000_000)}
    with _asked(served, "POST /v1/tasks/aaaaaaaaaa/answer", head) as raw:
        raw.sendall(body)
        answer = b""
        while b"message-too-large" not in answer or not answer.endswith(b"}"):
            answer += raw.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 413")
        counted = _crossed(raw)
    found = _settled(served, run, {"answer", "other", "register"})
    assert (found[0] - before[0], found[1] - before[1]) == counted
