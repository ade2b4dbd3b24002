"""Timeouts are about progress: what moves, however slowly, is never cut; what stands still is, and goes on later."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import time
from collections.abc import Callable

import httpx
import pytest

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, model
from thinwire.protocol.encoding import decode_message
from thinwire.protocol.messages import Problem

STALLED_AFTER_S = 1.0
MOVES_S = 0.2
LONG_S = 3 * STALLED_AFTER_S
SMALL_BUFFER = 8_192


async def _begun(served: Served) -> tuple[NumpyClient, str, bytes, bytes]:
    """A client with an open task; where its answer goes, the answer, the digest of the task's largest part."""
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
        client = NumpyClient(http, "client-00")
        await client.enrol(served.invite())
        message = await client.register()
        assert message is not None
        part = max(message.parts, key=lambda part: part.size or 0)
        assert part.digest is not None
        data, _ = client.perform(await client.fetch(message))
        created = await client.create_upload(message.task, data)
        return client, created.headers["location"], data, part.digest


def _request(client: NumpyClient, *lines: str) -> bytes:
    return "\r\n".join([*lines, "Host: localhost", f"Authorization: Bearer {client.token}", "", ""]).encode()


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about")


def test_an_upload_that_moves_is_taken_and_one_that_stands_still_is_cut(serve: Callable[..., Served]) -> None:
    served = serve(stalled_after_s=STALLED_AFTER_S)
    served.run(model(20_000), rounds=1, cohort=1, evaluate=False)
    client, location, data, _ = asyncio.run(_begun(served))
    head = _request(
        client, f"PATCH {location} HTTP/1.1", "Tus-Resumable: 1.0.0", "Upload-Offset: 0",
        "Content-Type: application/offset+octet-stream", f"Content-Length: {len(data)}",
    )  # fmt: skip
    sent = 0
    with socket.create_connection(("127.0.0.1", served.port)) as raw:
        raw.sendall(head)
        until = time.monotonic() + LONG_S
        while time.monotonic() < until:
            raw.sendall(data[sent : sent + 20])
            sent += 20
            time.sleep(MOVES_S)
        raw.settimeout(30)
        answered = b""
        while piece := raw.recv(1 << 16):
            answered += piece
    head_text, _, body = answered.partition(b"\r\n\r\n")
    assert head_text.startswith(b"HTTP/1.1 409")
    assert decode_message(Problem, body, "application/json").reason == "upload-incomplete"
    stands = httpx.head(f"{served.url}{location}", headers={**client.auth, "tus-resumable": "1.0.0"})
    assert int(stands.headers["upload-offset"]) == sent


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="this kernel does not say what was confirmed")
def test_a_download_to_a_peer_that_reads_slowly_goes_on_and_to_one_that_reads_nothing_is_cut(
    serve: Callable[..., Served],
) -> None:
    served = serve(stalled_after_s=STALLED_AFTER_S)
    # More than the kernels at both ends hold.
    run = served.run(model(800_000), rounds=1, cohort=1, evaluate=False)["id"]
    client, _, _, digest = asyncio.run(_begun(served))
    path = f"/v1/payloads/{digest.hex()}"

    def downloads() -> int:
        rows = served.get(f"/v1/runs/{run}/ledger").json()["rows"]
        return sum(int(row["requests"]) for row in rows if row["kind"] == "payload")

    before = downloads()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        raw.connect(("127.0.0.1", served.port))
        raw.settimeout(30)
        raw.sendall(_request(client, f"GET {path} HTTP/1.1"))
        arrived = b""
        until = time.monotonic() + LONG_S
        while time.monotonic() < until:
            arrived += raw.recv(2_000)
            time.sleep(MOVES_S / 4)
        assert downloads() == before, "it moved"
        _until(lambda: downloads() > before)
        with contextlib.suppress(ConnectionResetError):
            while piece := raw.recv(1 << 16):
                arrived += piece
    body = arrived.partition(b"\r\n\r\n")[2]
    rest = httpx.get(f"{served.url}{path}", headers={**client.auth, "range": f"bytes={len(body)}-"})
    assert rest.status_code == 206
    assert hashlib.sha256(body + rest.content).digest() == digest
