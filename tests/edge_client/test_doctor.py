"""Faults planted one by one on a device and on its way, and what `thinwire-client doctor` says of each."""

from __future__ import annotations

import importlib.util
import json
from email.utils import formatdate
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.coordinator.served import Served, free_port
from tests.planted import Answer, answering, certificate, refused
from thinwire.edge_client.cli import app
from thinwire.edge_client.doctor import examine_credentials, examine_folder, examine_way
from thinwire.edge_client.memory.folder import Credentials, Folder
from thinwire.machine.reach import Finding
from thinwire.protocol.exit_codes import Exit

SOUND: dict[str, Answer] = {"/readyz": (200, b"", {}), f"/v1/plans/{64 * '0'}": refused(404, "plan-not-found")}
TOKEN = "token-of-the-device"  # noqa: S105


def _faults(answers: dict[str, Answer]) -> list[Finding]:
    with answering(answers) as url:
        found = list(examine_way(url, TOKEN, None))
    assert all(one.cure for one in found if one.state != "ok")
    return [one for one in found if one.state != "ok"]


def test_where_nothing_is_wrong_nothing_is_said_to_be() -> None:
    assert _faults(SOUND) == []


@pytest.mark.parametrize(
    ("path", "answer", "check", "said", "cure"),
    [
        ("/readyz", (200, b"<html>log in</html>", {"content-type": "text/html"}), "coordinator", "text/html", "portal"),
        ("/readyz", (200, b"welcome", {}), "coordinator", "is no coordinator", "another service"),
        ("/readyz", (502, b"bad", {}), "coordinator", "502", "log"),
        ("/readyz", (301, b"", {"location": "https://x.example/"}), "coordinator", "redirects to", "own address"),
        ("/readyz", refused(503, "unavailable"), "coordinator", "unavailable: why", "log"),
        ("/readyz", (200, b"", {"date": formatdate(1e9, usegmt=True)}), "clock", "s ahead of the other's", "NTP"),
        (f"/v1/plans/{64 * '0'}", refused(401, "token-invalid"), "token", "token-invalid", "new invite"),
        (f"/v1/plans/{64 * '0'}", refused(403, "not-allowed"), "token", "not-allowed", "role client"),
    ],
)  # fmt: skip
def test_a_fault_of_the_other_side(path: str, answer: Answer, check: str, said: str, cure: str) -> None:
    (found,) = _faults({**SOUND, path: answer})
    assert (found.check, said in found.said, cure in found.cure) == (check, True, True), found


def test_faults_of_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def last(url: str, ca_file: Path | None = None) -> tuple[str, str]:
        found = list(examine_way(url, None, ca_file))[-1]
        assert found.state == "wrong"
        return found.check, found.said + found.cure

    check, said = last(f"http://127.0.0.1:{free_port()}")
    assert (check, "nobody listens" in said) == ("port", True)
    check, said = last("http://no-such-name.invalid")
    assert (check, "has no address" in said) == ("name", True)
    assert last("coordinator.example")[0] == "address"
    own, context = certificate(tmp_path)
    with answering(SOUND, context) as url:
        named = url.replace("127.0.0.1", "localhost")
        assert [last(named)[0], "name of its certificate" in last(url, own)[1]] == ["certificate", True]
        assert [one.check for one in examine_way(named, None, own) if one.state == "ok"][-1] == "coordinator"
        assert last(url.replace("https:", "http:"))[0] == "coordinator"
    with answering(SOUND) as url:
        assert "http://" in last(url.replace("http:", "https:"))[1]
    monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{free_port()}")
    proxy, coordinator = examine_way("http://coordinator.example", None, None)
    assert (proxy.check, coordinator.state) == ("proxy", "wrong")
    assert "secret" not in proxy.said + coordinator.said


def test_faults_of_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "client"

    def told(least_free: int = 0) -> list[str]:
        return [one.check for one in examine_folder(folder, least_free) if one.state == "wrong"]

    assert told() == []
    client = Folder(folder)
    client.keep_credentials(Credentials("http://127.0.0.1:9", "anna", TOKEN))
    assert (told(), told(1 << 62)) == ([], ["disk"])
    assert "a client works in the folder" in [one.said for one in examine_folder(folder)]
    client.close()
    for path, mode in ((folder, 0o755), (folder / "credentials", 0o640)):
        before = path.stat().st_mode
        path.chmod(mode)
        assert told() == ["folder"]
        path.chmod(before)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert told() == ["torch"]

    (own,), known = examine_credentials(folder, None)
    assert (own.state, known is not None) == ("ok", True)
    (moved,), _ = examine_credentials(folder, "http://elsewhere.example")
    assert (moved.state, "--moved" in moved.cure) == ("wrong", True)
    (folder / "credentials").write_bytes(b"torn")
    (torn,), none = examine_credentials(folder, None)
    assert (torn.state, "damaged" in torn.said, none) == ("wrong", True, None)
    (unknown,), _ = examine_credentials(tmp_path / "nobody", None)
    assert (unknown.state, "thinwire-client join" in unknown.cure) == ("wrong", True)


def test_a_client_that_leaves_is_none_any_more(coordinator: Served, tmp_path: Path) -> None:
    invite = {"invite": coordinator.invite(), "name": "leaver"}
    token = coordinator.post("/v1/clients", json=invite).json()["token"]
    folder = Folder(tmp_path / "client")
    folder.keep_credentials(Credentials(coordinator.url, "leaver", token))
    folder.close()
    at = ["--data-dir", str(tmp_path / "client")]
    done = CliRunner().invoke(app, ["doctor", *at, "--format", "json"])
    assert done.exit_code == Exit.OK, done.output
    checks = {one["check"]: one["state"] for one in json.loads(done.output)["findings"]}
    assert {"credentials", "port", "coordinator", "token"} <= checks.keys()
    assert set(checks.values()) == {"ok"}
    left = CliRunner().invoke(app, ["leave", *at])
    assert (left.exit_code, "leaver has left" in left.output) == (Exit.OK, True), left.output
    again = CliRunner().invoke(app, ["leave", *at])
    assert (again.exit_code, "has not enrolled" in again.output) == (Exit.USAGE, True)
    listed = {one["client"]: one for one in coordinator.get("/v1/clients").json()["clients"]}
    assert listed["leaver"]["revoked"]
    done = CliRunner().invoke(app, ["doctor", *at])
    assert (done.exit_code, "WRONG  credentials: this client has not enrolled" in done.output) == (Exit.FAILED, True)
