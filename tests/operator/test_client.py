"""The operator's requests: where the coordinator is, and what answers there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.operator.stub import answering
from thinwire.operator.access import NoAddressError
from thinwire.operator.cli.app import app
from thinwire.operator.client import Coordinator
from thinwire.operator.transport import Event, UnreachableError
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.messages import RunList
from thinwire.protocol.reasons import ProblemError

STRANGER = {
    "/page": (200, b"<html>hello</html>"),
    "/lost": (404, b"<html>not here</html>"),
    "/moved": (302, b""),
    "/problem": (404, b'{"reason": "run-not-found", "detail": "no run", "retry": false}'),
    "/newer": (404, b'{"reason": "of-a-later-version", "detail": "what it says", "retry": false}'),
    "/runs": (200, b'{"runs": []}'),
    "/short": (200, b'{"runs": ['),
    "/events": (200, b': hello\n\nid: 7\nevent: run\ndata: {"a":\ndata: 1}\n\ndata: plain\n\nevent: cut\ndata: x'),
}
"""By path, as proxies, other services and coordinators answer."""


@pytest.fixture
def stranger() -> Iterator[Coordinator]:
    with answering(STRANGER) as url:
        operator = Coordinator(url, None)
        yield operator
        operator.close()


@pytest.mark.parametrize("path", ["/page", "/lost", "/moved", "/short"])
def test_what_is_no_coordinator_is_said_to_be_none(stranger: Coordinator, path: str) -> None:
    with pytest.raises(UnreachableError, match=path):
        stranger.ask("GET", path, RunList)


def test_problems_keep_their_reason(stranger: Coordinator) -> None:
    assert stranger.ask("GET", "/runs", RunList).runs == []
    with pytest.raises(ProblemError) as problem:
        stranger.ask("GET", "/problem", RunList)
    assert (problem.value.reason, problem.value.detail) == ("run-not-found", "no run")
    with pytest.raises(ProblemError, match="what it says"):
        stranger.ask("GET", "/newer", RunList)


def test_events_are_read_as_they_are_written(stranger: Coordinator) -> None:
    assert list(stranger.stream("/events")) == [Event("run", '{"a":\n1}', 7), Event("message", "plain", 7)]


def test_a_file_is_there_whole_or_not_at_all(stranger: Coordinator, tmp_path: Path) -> None:
    with pytest.raises(ProblemError):
        stranger.fetch_file("/problem", tmp_path / "file")
    assert not list(tmp_path.iterdir())
    assert stranger.fetch_file("/runs", tmp_path / "file") == 12
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_pulled_model_is_what_the_coordinator_serves(tmp_path: Path) -> None:
    """Byte for byte, whatever they are: nothing is read and written again."""
    served = bytes(range(256)) * 5000
    with answering({"/v1/runs/night/model": (200, served)}) as url:
        words = ["run", "pull", "night", "--url", url, "--out", str(tmp_path / "model")]
        done = CliRunner().invoke(app, words)
    assert done.exit_code == Exit.OK, done.output
    assert (tmp_path / "model").read_bytes() == served
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_proxy_of_the_environment_is_named_and_never_asked_for_this_machine(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://user:secret@127.0.0.1:{free_port}")
    with answering(STRANGER) as url:
        here = Coordinator(url, None)
        assert here.ask("GET", "/runs", RunList).runs == []
        here.close()
    elsewhere = Coordinator("http://coordinator.example", None)
    with pytest.raises(UnreachableError, match=f"through the proxy http://127.0.0.1:{free_port}: "):
        elsewhere.ask("GET", "/runs", RunList)
    elsewhere.close()
    monkeypatch.setenv("http_proxy", "gopher://127.0.0.1")
    with pytest.raises(NoAddressError, match="gopher"):
        Coordinator("http://coordinator.example", None)


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("hello")
    for name in ("none.pem", "nowhere.pem"):
        with pytest.raises(NoAddressError, match=name):
            Coordinator("https://localhost:1", None, ca_file=tmp_path / name)
