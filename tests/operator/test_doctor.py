"""Faults planted one by one, and what `thinwire doctor` says of each: what is wrong, and what to do."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Mapping
from email.utils import formatdate
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.coordinator.served import free_port
from tests.planted import Answer, answering, certificate, refused
from thinwire.machine.reach import Finding
from thinwire.operator import doctor
from thinwire.operator.cli.app import app
from thinwire.operator.doctor import examine_coordinator, examine_folder
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.places import ADDRESS_FILE

SOUND: dict[str, Answer] = {
    "/readyz": (200, b"", {}),
    "/v1/clients": (200, b'{"clients": []}', {}),
    "/metrics": (200, f'thinwire_build_info{{version="{version("thinwire")}",wire="1"}} 1.0\n'.encode(), {}),
    "/v1/problems": (200, b'{"problems": []}', {}),
    "/v1/runs": (200, b'{"runs": [{"id": "abcdef", "state": "running"}]}', {}),
    "/v1/runs/abcdef/events": (200, b"event: run\ndata: {}\n\n", {}),
    "/v1/models": refused(401, "token-missing"),
}


def _worst(answers: Mapping[str, Answer]) -> Finding | None:
    with answering(answers) as url:
        found = list(examine_coordinator(url, "token", None))
    assert all(finding.cure for finding in found if finding.state != "ok")
    return next((finding for finding in found if finding.state != "ok"), None)


def test_where_nothing_is_wrong_nothing_is_said_to_be() -> None:
    assert _worst(SOUND) is None


@pytest.mark.parametrize(
    ("path", "answer", "check", "said", "cure"),
    [
        ("/readyz", (200, b"<html>log in</html>", {}), "coordinator", "is no coordinator", "portal"),
        ("/readyz", (502, b"<html>bad</html>", {}), "coordinator", "a proxy answers 502", "start the coordinator"),
        ("/readyz", (301, b"", {"location": "https://x.example/"}), "coordinator", "redirects", "follow no redirects"),
        ("/readyz", refused(503, "unavailable"), "coordinator", "unavailable: why", "log"),
        ("/readyz", (200, b"", {"date": formatdate(1e9, usegmt=True)}), "clock", "s ahead of the other's", "NTP"),
        ("/v1/clients", refused(401, "token-missing"), "token", "token-missing", "thinwire login"),
        ("/v1/clients", refused(401, "token-invalid"), "token", "token-invalid", "log in again"),
        ("/v1/clients", refused(403, "not-allowed"), "token", "not-allowed", "role operator or reader"),
        ("/v1/models", (413, b"<html>too large</html>", {}), "uploads", "no body of 64 MiB", "client_max_body"),
        ("/metrics", (200, b'thinwire_build_info{version="0.0.1",wire="1"} 1.0', {}), "version", "0.0.1 there", "same"),
    ],
)  # fmt: skip
def test_a_fault_of_the_other_side(path: str, answer: Answer, check: str, said: str, cure: str) -> None:
    found = _worst({**SOUND, path: answer})
    assert found is not None
    assert (found.check, said in found.said, cure in found.cure) == (check, True, True), found


def test_what_only_the_coordinator_sees_is_asked_of_it() -> None:
    """Its database and its store of objects are out of reach for everybody else."""
    told = {"kind": "storage", "severity": "error", "said": "the store does not answer", "cure": "look", "since": 1.0}
    answer = json.dumps({"problems": [told, {**told, "kind": "quorum"}]}).encode()
    with answering({**SOUND, "/v1/problems": (200, answer, {})}) as url:
        (found,) = [one for one in examine_coordinator(url, "token", None) if one.state != "ok"]
    assert (found.check, found.state, found.cure) == ("storage", "wrong", "look")
    assert found.said == "it says: the store does not answer"


def test_events_that_are_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE_S", 0.3)
    found = _worst({path: answer for path, answer in SOUND.items() if not path.endswith("events")})
    assert found is not None
    assert (found.check, "buffering off" in found.cure) == ("events", True)


def test_nobody_there() -> None:
    (port,) = examine_coordinator(f"http://127.0.0.1:{free_port()}", None, None)
    assert (port.check, port.state, "nobody listens" in port.said) == ("port", "wrong", True)
    (name,) = examine_coordinator("http://no-such-name.invalid", None, None)
    assert (name.check, name.state, "has no address" in name.said) == ("name", "wrong", True)


def test_a_proxy_is_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{free_port()}")
    proxy, coordinator = examine_coordinator("http://coordinator.example", None, None)
    assert (proxy.check, coordinator.check, coordinator.state) == ("proxy", "coordinator", "wrong")
    assert "secret" not in proxy.said + coordinator.said


def test_certificates(tmp_path: Path) -> None:
    own, context = certificate(tmp_path)
    with answering(SOUND, context) as url:
        named = url.replace("127.0.0.1", "localhost")
        said = [list(examine_coordinator(at, None, ca))[-1] for at, ca in ((named, None), (url, own))]
        soon = [finding for finding in examine_coordinator(named, None, own) if finding.state != "ok"]
    assert ["--ca-file" in said[0].cure, "name of its certificate" in said[1].cure] == [True, True]
    assert [finding.said for finding in soon] == ["the certificate ends in 2 days"]
    with answering(SOUND) as url:
        plain = list(examine_coordinator(url.replace("http:", "https:"), None, None))[-1]
    assert "http://" in plain.cure


def test_faults_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "operator.token").touch(mode=0o600)
    with sqlite3.connect(folder / "thinwire.db") as database:
        database.execute("CREATE TABLE t (x)")
    assert [finding.state for finding in examine_folder(folder, 0)] == ["ok", "ok"]

    def told(least_free: int = 0) -> list[str]:
        return [finding.check for finding in examine_folder(folder, least_free) if finding.state == "wrong"]

    assert told(1 << 62) == ["disk"]
    folder.chmod(0o755)
    (folder / "operator.token").chmod(0o644)
    assert told() == ["folder", "folder"]
    folder.chmod(0o700)
    (folder / "operator.token").chmod(0o600)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (folder / ADDRESS_FILE).write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": ended.pid}))
    assert told() == ["process"]
    (folder / ADDRESS_FILE).unlink()
    (folder / "thinwire.db").write_bytes(b"not a database at all" * 100)
    assert told() == ["database"]


def test_the_command_says_it_in_words_and_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THINWIRE_URL", "THINWIRE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    nowhere = ["doctor", "--data-dir", str(tmp_path / "none")]
    done = CliRunner().invoke(app, nowhere)
    assert (done.exit_code, done.output.startswith("WRONG  address: no coordinator is known")) == (Exit.FAILED, True)
    with answering(SOUND) as url:
        done = CliRunner().invoke(app, [*nowhere, "--url", url, "--format", "json"])
    assert done.exit_code == Exit.OK
    assert [one["check"] for one in json.loads(done.output)["findings"]] == [
        "port", "coordinator", "token", "version", "events", "uploads",
    ]  # fmt: skip
