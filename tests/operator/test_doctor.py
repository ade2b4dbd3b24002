"""Faults planted one by one, and what `thinwire doctor` says of each: what is wrong, and what to do."""

from __future__ import annotations

import json
import shutil
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.coordinator.served import free_port
from thinwire.operator import doctor
from thinwire.operator.cli.app import app
from thinwire.operator.doctor import Finding, examine_coordinator, examine_folder
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.places import ADDRESS_FILE

Answer = tuple[int, bytes, Mapping[str, str]]
SOUND: dict[str, Answer] = {
    "/readyz": (200, b"", {}),
    "/v1/clients": (200, b'{"clients": []}', {}),
    "/metrics": (200, f'thinwire_build_info{{version="{version("thinwire")}",wire="1"}} 1.0\n'.encode(), {}),
    "/v1/runs": (200, b'{"runs": [{"id": "abcdef", "state": "running"}]}', {}),
    "/v1/runs/abcdef/events": (200, b"event: run\ndata: {}\n\n", {}),
}


def _refused(status: int, reason: str) -> Answer:
    return status, json.dumps({"reason": reason, "detail": "why", "retry": False}).encode(), {}


@contextmanager
def _answering(answers: Mapping[str, Answer], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """By path; what has no answer is held until the end."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in answers:
                over.wait(60)
                return
            status, body, headers = answers[self.path]
            self.send_response_only(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # whoever does not trust the certificate hangs up

    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
        finally:
            over.set()
            server.shutdown()


def _worst(answers: Mapping[str, Answer]) -> Finding | None:
    with _answering(answers) as url:
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
        ("/readyz", _refused(503, "unavailable"), "coordinator", "unavailable: why", "log"),
        ("/readyz", (200, b"", {"date": formatdate(1e9, usegmt=True)}), "clock", "s ahead of the other's", "NTP"),
        ("/v1/clients", _refused(401, "token-missing"), "token", "token-missing", "thinwire login"),
        ("/v1/clients", _refused(401, "token-invalid"), "token", "token-invalid", "log in again"),
        ("/v1/clients", _refused(403, "not-allowed"), "token", "not-allowed", "role operator or reader"),
        ("/metrics", (200, b'thinwire_build_info{version="0.0.1",wire="1"} 1.0', {}), "version", "0.0.1 there", "same"),
    ],
)  # fmt: skip
def test_a_fault_of_the_other_side(path: str, answer: Answer, check: str, said: str, cure: str) -> None:
    found = _worst({**SOUND, path: answer})
    assert found is not None
    assert (found.check, said in found.said, cure in found.cure) == (check, True, True), found


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
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    own, key = tmp_path / "own.pem", tmp_path / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(own)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    with _answering(SOUND, context) as url:
        named = url.replace("127.0.0.1", "localhost")
        said = [list(examine_coordinator(at, None, ca))[-1] for at, ca in ((named, None), (url, own))]
        soon = [finding for finding in examine_coordinator(named, None, own) if finding.state != "ok"]
    assert ["--ca-file" in said[0].cure, "name of its certificate" in said[1].cure] == [True, True]
    assert [finding.said for finding in soon] == ["the certificate ends in 2 days"]
    with _answering(SOUND) as url:
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
    with _answering(SOUND) as url:
        done = CliRunner().invoke(app, [*nowhere, "--url", url, "--format", "json"])
    assert done.exit_code == Exit.OK
    assert [one["check"] for one in json.loads(done.output)["findings"]] == [
        "port", "coordinator", "token", "version", "events",
    ]  # fmt: skip
