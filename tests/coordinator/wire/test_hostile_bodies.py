"""What means harm, on every endpoint, in both encodings: a Problem of the table, never a 5xx, never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import msgpack
import pytest
from hypothesis import strategies as st

from tests.coordinator.served import Served, model
from tests.coordinator.test_endpoints import enrolled, problem_of
from tests.protocol.messages_strategies import random_messages
from thinwire.protocol import messages as m
from thinwire.protocol.encoding import JSON, MSGPACK, encode_message

GIVEN = {
    "POST /v1/clients": m.Enrolment,
    "POST /v1/clients/hostile-client/token": m.RunCommand,
    "POST /v1/invites": m.InviteRequest,
    "POST /v1/registrations": m.Registration,
    "POST /v1/tasks/{task}/answer": m.AnswerMessage,
    "POST /v1/runs": m.RunRequest,
    "POST /v1/runs/hostile/pause": m.RunCommand,
    "POST /v1/runs/hostile/resume": m.RunCommand,
    "POST /v1/models": m.StoredModel,
    "POST /v1/uploads": m.AnswerMessage,
    "PATCH /v1/uploads/abcdefgh": m.AnswerMessage,
    "DELETE /v1/clients/nobody": m.RunCommand,
    "GET /v1/runs/hostile/ledger": m.RunCommand,
}
DEEP = {"list": b"\x91" * 2000 + b"\xc0", "map": b"\x81\xa1a" * 2000 + b"\xc0", "json": b"[" * 50_000}
PACKED_BOMBS = {
    "an array that is not there": b"\xdd\xff\xff\xff\xff",
    "a map that is not there": b"\xdf\xff\xff\xff\xff",
    "text that is not there": b"\xdb\xff\xff\xff\xff",
    "bytes that are not there": b"\xc6\xff\xff\xff\xff",
    "an extension that is not there": b"\xc9\xff\xff\xff\xff\x05",
    "arrays in arrays that are not there": b"\xdd\x00\x00\x3f\xff" * 500,
    "an extension": msgpack.packb(msgpack.ExtType(5, b"x")),
    "a timestamp": msgpack.packb(msgpack.Timestamp(1, 2)),
    "a key twice": b"\x82\xa4open\xa4drop\xa4open\xa4drop",
    "keys that are numbers": msgpack.packb({1: 2}),
    "keys that are lists": b"\x81\x91\x01\x02",
    "text that is not UTF-8": b"\x81\xa4open\xa2\xff\xfe",
    "not a map": msgpack.packb([1, 2, 3]),
    "nothing": b"",
    **{f"deep {name}": body for name, body in DEEP.items()},
}
JSON_BOMBS = {
    "numbers without end": b"[" + b"9" * 100_000 + b"]",
    "a number beyond all": b'{"expires_in_s": 1e999}',
    "NaN": b'{"examples": 1, "metrics": {"loss": NaN}}',
    "half a character": b'{"name": "\\ud800", "invite": "x"}',
    "a key twice": b'{"open": "drop", "open": "drop"}',
    "not UTF-8": b'{"open": "\xff"}',
    "with a mark": b"\xef\xbb\xbf{}",
    "a path": b'{"invite": "x", "name": "../../etc/passwd"}',
    "a line break": b'{"invite": "x", "name": "a\\nset-cookie: b"}',
    "deep": DEEP["json"],
}
LIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def scene(standing: Served) -> Iterator[tuple[httpx.Client, dict[str, dict[str, str]], str]]:
    """A connection, who may ask, and a task that is open."""
    standing.run(model(200), cohort=1, name="hostile", group="hostile")
    client = enrolled(standing, "hostile-client", group="hostile")
    task = httpx.post(f"{standing.url}/v1/registrations?wait_s=20", json={}, headers=client).json()["task"]
    with httpx.Client(base_url=standing.url, timeout=60) as http:
        yield http, {"client": client, "operator": standing.operator}, task


def _send(scene: Any, endpoint: str, body: bytes, media_type: str, who: str) -> httpx.Response:
    http, tokens, task = scene
    method, path = endpoint.split(" ")
    headers = {**tokens[who], "content-type": media_type, "tus-resumable": "1.0.0"}
    response: httpx.Response = http.request(method, path.replace("{task}", task), content=body, headers=headers)
    assert response.status_code < 500, (endpoint, body[:200], response.text)
    assert b"Traceback" not in response.content
    if response.status_code >= 400:
        problem_of(response)
    return response


def _who(endpoint: str) -> str:
    return "client" if re.search("registrations|tasks|uploads|token", endpoint) else "operator"


@pytest.mark.parametrize("endpoint", GIVEN)
def test_what_no_encoder_writes_is_refused(scene: Any, endpoint: str) -> None:
    for media_type, bombs in ((MSGPACK, PACKED_BOMBS), (JSON, JSON_BOMBS)):
        for body in bombs.values():
            response = _send(scene, endpoint, body, media_type, _who(endpoint))
            assert response.status_code >= 400 or endpoint.startswith(("GET", "POST /v1/clients/hostile-client"))
            _refresh(scene, endpoint, response)


@pytest.mark.hypothesis
@pytest.mark.parametrize("media_type", [MSGPACK, JSON])
@pytest.mark.parametrize("endpoint", GIVEN)
def test_half_true_messages_are_answered_with_sense(scene: Any, endpoint: str, media_type: str) -> None:
    kind = GIVEN[endpoint]

    @hypothesis.settings(max_examples=max(1, hypothesis.settings().max_examples // 6), database=None)
    @hypothesis.given(
        message=random_messages(kind, media_type), key=st.integers(0, 20), lie=LIES, cut=st.integers(0, 400)
    )
    def law(message: Any, key: int, lie: Any, cut: int) -> None:
        body = encode_message(message, media_type)
        plain = message.model_dump(mode="json" if media_type == JSON else "python", exclude_none=True)
        names = sorted(plain)
        if names:
            plain[names[key % len(names)]] = lie
        bodies = [body, body[: len(body) * cut // 400], _packed(plain, media_type)]
        for one in bodies:
            if one is not None:
                _refresh(scene, endpoint, _send(scene, endpoint, one, media_type, _who(endpoint)))

    law()


def _packed(plain: Any, media_type: str) -> bytes | None:
    try:
        return json.dumps(plain).encode() if media_type == JSON else bytes(msgpack.packb(plain))
    except (TypeError, ValueError, OverflowError):
        return None


def _refresh(scene: Any, endpoint: str, response: httpx.Response) -> None:
    """A client that got a new token goes on with it."""
    if endpoint.endswith("/token") and response.status_code == 201:
        found = response.json() if response.headers["content-type"] == JSON else msgpack.unpackb(response.content)
        scene[1]["client"] = {"authorization": f"Bearer {found['token']}"}


PATHS = [
    "/v1/payloads/{}", "/v1/plans/{}", "/v1/runs/{}", "/v1/runs/{}/model", "/v1/runs/{}/ledger", "/v1/uploads/{}",
    "/v1/tasks/{}/answer", "/v1/clients/{}",
]  # fmt: skip
TRICKS = [
    "..", "../operator.token", "..%2foperator.token", "..%252foperator.token", "%2e%2e%2foperator.token",
    "....//operator.token", "%00", "a%00b", "%ff", "%0d%0aset-cookie:x", "operator.token", ".", "~", "*",
    "0" * 63 + "/", "A" * 64, "0" * 64, "0" * 200, "${HOME}", "..;/", "%5c..%5coperator.token",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_name_is_a_path(standing: Served, scene: Any, path: str) -> None:
    """Over a bare socket: a library would tidy the path up."""
    secret = (standing.data_dir / "operator.token").read_bytes().strip()
    for who in ("client", "operator"):
        token = scene[1][who]["authorization"]
        for trick in TRICKS:
            for method in ("GET", "HEAD", "POST", "PATCH", "DELETE"):
                head = f"{method} {path.format(trick)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n"
                rest = "Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                answer = _raw(standing, (head + rest).encode())
                status = int(answer.split(b" ", 2)[1])
                assert 400 <= status < 500, (method, path, trick, answer)
                assert secret not in answer
    assert not list(_files(standing.data_dir / "uploads"))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _stored(standing: Served) -> int:
    return sum(path.stat().st_size for path in _files(standing.data_dir) if path.name != "log.txt")


@pytest.fixture(scope="module", autouse=True)
def stored_before(standing: Served) -> int:
    """Other files' tests use the same coordinator."""
    return _stored(standing)


def _raw(standing: Served, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", standing.port), timeout=60) as raw:
        raw.sendall(data)
        found = b""
        while piece := raw.recv(1 << 16):
            found += piece
    return found


RAW = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no path": b"GET HTTP/1.1\r\n\r\n",
    "an address as path": b"GET http://a.example/v1/runs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "a tunnel": b"CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "a header of one line": b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
    "two lengths": b"POST /v1/clients HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"POST /v1/clients HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "a length of 30 digits": b"POST /v1/clients HTTP/1.1\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
    "a chunk of 30 digits": b"POST /v1/clients HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
    "an upgrade": b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n",
    "an old version": b"GET /healthz HTTP/0.9\r\n\r\n",
    "an unknown method": b"BREW /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("sent", RAW.values(), ids=RAW.keys())
def test_what_is_no_request_ends_its_connection_and_nothing_else(standing: Served, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", standing.port), timeout=60) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := raw.recv(1 << 16):
                found += piece
    assert not found or int(found.split(b" ", 2)[1]) < 500, found
    assert b"Traceback" not in found
    assert httpx.get(f"{standing.url}/healthz").status_code == 200


@pytest.mark.parametrize(
    "sent", ["bytes=0-,0-,0-", "bytes=-1-2", "bytes=abc", "lines=1-2", "bytes=5-2", "bytes=", "x" * 1000]
)
def test_odd_ranges_are_problems_or_ignored(standing: Served, scene: Any, sent: str) -> None:
    http, tokens, _ = scene
    task = http.post("/v1/registrations", json={}, headers=tokens["client"]).json()
    digest = task["parts"][0]["digest"]
    response = http.get(f"/v1/payloads/{digest}", headers={**tokens["client"], "range": sent})
    if response.status_code != 416:
        assert response.status_code == 200
        assert len(response.content) == task["parts"][0]["size"]
    else:
        assert problem_of(response).reason == "range-not-satisfiable"


def test_the_database_and_the_folder_hold_nothing_of_all_this(standing: Served, stored_before: int) -> None:
    """What was refused left no row and no file."""
    assert _stored(standing) - stored_before < 16 << 20
    assert os.path.getsize(standing.data_dir / "log.txt") < 8 << 20
