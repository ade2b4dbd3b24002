"""The lines that clients send are bounded, belong to whoever sent them, and are shown as text."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import zstandard
from typer.testing import CliRunner

from tests.coordinator.served import Served
from tests.coordinator.test_endpoints import enrolled
from thinwire.operator.cli.app import app
from thinwire.protocol.fields import MAX_LOG_LINES, MAX_SAID


def _pack(text: str) -> bytes:
    return zstandard.ZstdCompressor().compress(text.encode())


def _send(served: Served, who: dict[str, str], name: str, body: bytes) -> httpx.Response:
    headers = {**who, "content-type": "application/octet-stream"}
    return httpx.post(f"{served.url}/v1/clients/{name}/log", content=body, headers=headers, timeout=30)


def _lines(served: Served, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.get(f"/v1/clients/{name}/log").json()["lines"]
    return found


def test_the_latest_lines_are_kept_in_order(standing: Served) -> None:
    client = enrolled(standing, "talks")
    assert standing.get("/v1/clients/talks/log").json() == {"client": "talks", "lines": []}
    first = "\n".join(f"{1_700_000_000 + number} line {number}" for number in range(150))
    assert _send(standing, client, "talks", _pack(first)).status_code == 204
    second = "\n".join(f"{1_700_000_200 + number} more {number}" for number in range(100))
    assert _send(standing, client, "talks", _pack(second)).status_code == 204
    lines = _lines(standing, "talks")
    assert len(lines) == MAX_LOG_LINES
    assert (lines[0]["said"], lines[-1]) == ("line 50", {"at": 1_700_000_299.0, "said": "more 99"})


def test_what_a_hostile_client_says_is_text_and_short(standing: Served) -> None:
    client = enrolled(standing, "shouts")
    sent = _pack(f"1700000000 \x1b[31mred\u202e\n1700000001 {'x' * 5000}")
    assert _send(standing, client, "shouts", sent).status_code == 204
    red, long = _lines(standing, "shouts")
    assert red["said"] == "\\x1b[31mred\\u202e"
    assert long["said"] == "x" * MAX_SAID
    words = ["client", "log", "shouts", "--data-dir", str(standing.data_dir), "--url", standing.url]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert "\\x1b[31mred" in shown.output
    assert "\x1b" not in shown.output


@pytest.mark.parametrize(
    "body",
    [
        b"no frame",
        _pack("not a line"),
        _pack("1e9 what"),
        _pack("99999999999999 what"),
        zstandard.ZstdCompressor().compress(b"\xff\xfe"),
        zstandard.ZstdCompressor(level=3).compress(bytes(1 << 26)),  # a small bomb
        _pack("1700000000 x" + "y" * (1 << 20)),
    ],
)
def test_what_is_no_log_is_refused(standing: Served, body: bytes) -> None:
    client = standing.data_dir  # one client for all of these
    assert client.exists()
    who = _known(standing)
    refused = _send(standing, who, "mumbles", body)
    assert (refused.status_code, refused.json()["reason"]) == (422, "bad-message")
    assert _lines(standing, "mumbles") == []


_MUMBLES: dict[str, dict[str, str]] = {}


def _known(served: Served) -> dict[str, str]:
    if served.url not in _MUMBLES:
        _MUMBLES[served.url] = enrolled(served, "mumbles")
    return _MUMBLES[served.url]


def test_a_client_sends_its_own_lines_and_reads_nobodys(standing: Served) -> None:
    one, _ = enrolled(standing, "hears"), enrolled(standing, "other")
    for asked in (
        _send(standing, one, "other", _pack("1700000000 x")),
        httpx.get(f"{standing.url}/v1/clients/hears/log", headers=one),
        _send(standing, standing.operator, "hears", _pack("1700000000 x")),
    ):
        assert asked.status_code in (401, 403), asked.text
    assert standing.get("/v1/clients/nobody/log").status_code == 404
    too_much = _send(standing, one, "hears", bytes(1 << 17))
    assert (too_much.status_code, too_much.json()["reason"]) == (413, "message-too-large")
