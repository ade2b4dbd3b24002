"""The operator's requests: where the coordinator is, and what answers there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from thinwire.operator.client import (
    ADDRESS_FILE,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    NoAddressError,
    Operator,
    UnreachableError,
    find_token,
    find_url,
)
from thinwire.protocol.messages import RunList
from thinwire.protocol.places import OPERATOR_TOKEN
from thinwire.protocol.reasons import ProblemError


class _Stranger(BaseHTTPRequestHandler):
    """Answers by path, as proxies, other services and coordinators do."""

    answers: dict[str, tuple[int, bytes]] = {  # noqa: RUF012
        "/page": (200, b"<html>hello</html>"),
        "/lost": (404, b"<html>not here</html>"),
        "/moved": (302, b""),
        "/problem": (404, b'{"reason": "run-not-found", "detail": "no run", "retry": false}'),
        "/newer": (404, b'{"reason": "of-a-later-version", "detail": "what it says", "retry": false}'),
        "/runs": (200, b'{"runs": []}'),
        "/short": (200, b'{"runs": ['),
        "/events": (200, b': hello\n\nevent: run\ndata: {"a":\ndata: 1}\n\ndata: plain\n\nevent: cut\ndata: x'),
    }

    def do_GET(self) -> None:
        status, body = self.answers[self.path]
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status == 302:
            self.send_header("location", "/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[Operator]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stranger) as server:
        threading.Thread(target=server.serve_forever).start()
        operator = Operator(f"http://127.0.0.1:{server.server_address[1]}", None)
        yield operator
        operator.close()
        server.shutdown()


@pytest.mark.parametrize("path", ["/page", "/lost", "/moved", "/short"])
def test_what_is_no_coordinator_is_said_to_be_none(stranger: Operator, path: str) -> None:
    with pytest.raises(UnreachableError, match=path):
        stranger.ask("GET", path, RunList)


def test_problems_keep_their_reason(stranger: Operator) -> None:
    assert stranger.ask("GET", "/runs", RunList).runs == []
    with pytest.raises(ProblemError) as problem:
        stranger.ask("GET", "/problem", RunList)
    assert (problem.value.reason, problem.value.detail) == ("run-not-found", "no run")
    with pytest.raises(ProblemError, match="what it says"):
        stranger.ask("GET", "/newer", RunList)


def test_events_are_read_as_they_are_written(stranger: Operator) -> None:
    assert list(stranger.events("/events")) == [("run", '{"a":\n1}'), ("message", "plain")]


def test_a_file_is_there_whole_or_not_at_all(stranger: Operator, tmp_path: Path) -> None:
    with pytest.raises(ProblemError):
        stranger.fetch_file("/problem", tmp_path / "file")
    assert not list(tmp_path.iterdir())
    assert stranger.fetch_file("/runs", tmp_path / "file") == 12
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_where_the_coordinator_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (URL_VARIABLE, TOKEN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NoAddressError, match=URL_VARIABLE):
        find_url(None, tmp_path)
    assert find_token(tmp_path) is None
    (tmp_path / ADDRESS_FILE).write_text(json.dumps({"url": "http://of-the-folder", "pid": 1}))
    (tmp_path / OPERATOR_TOKEN).write_text("of-the-folder\n")
    assert (find_url(None, tmp_path), find_token(tmp_path)) == ("http://of-the-folder", "of-the-folder")
    monkeypatch.setenv(URL_VARIABLE, "http://of-the-environment/")
    monkeypatch.setenv(TOKEN_VARIABLE, "of-the-environment")
    assert (find_url(None, tmp_path), find_token(tmp_path)) == ("http://of-the-environment", "of-the-environment")
    assert find_url("http://given", tmp_path) == "http://given"


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("hello")
    for name in ("none.pem", "nowhere.pem"):
        with pytest.raises(NoAddressError, match=name):
            Operator("https://localhost:1", None, ca_file=tmp_path / name)
