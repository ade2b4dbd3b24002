"""The configurations in deploy for replicas, in the programs that they are for: whichever replica dies, the run
ends through the proxy, in the same bits.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest

from tests.coordinator.served import free_port
from tests.coordinator.test_replicas import check, kill_follower, kill_leader, replicas
from tests.postgres_server import PostgresServer
from tests.programs import program

FILES = Path(__file__).resolve().parents[2] / "deploy"
_TLS = re.compile(r" *(listen \[::\]:443 ssl|ssl_certificate(_key)? [^;]+);\n")


def _tool(name: str) -> str:
    found = program(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    return found


def nginx(folder: Path, port: int, upstreams: Sequence[int]) -> list[str]:
    """The command that serves the replicas at these ports by nginx, without TLS, at this port."""
    text = _TLS.sub("", (FILES / "nginx-replicas.conf").read_text())
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port}").replace("coordinator.example", "127.0.0.1")
    for number, upstream in enumerate(upstreams):
        text = text.replace(f"replica-{number}:8080", f"127.0.0.1:{upstream}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    head = f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{head}http {{\naccess_log off;\n{places}{text}}}\n")
    return [_tool("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def caddy(folder: Path, port: int, upstreams: Sequence[int]) -> list[str]:
    """As `nginx`, by Caddy."""
    text = (FILES / "Caddyfile-replicas").read_text()
    text = text.replace("{$THINWIRE_HOST:coordinator.example} {", f"http://127.0.0.1:{port} {{")
    places = " ".join(f"127.0.0.1:{upstream}" for upstream in upstreams)
    text = text.replace("{$THINWIRE_REPLICAS:replica-0:8080 replica-1:8080}", places)
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tskip_install_trust\n}\n" + text)
    return [_tool("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


Made = Callable[[Path, int, Sequence[int]], list[str]]
PROXIES: dict[str, Made] = {"nginx": nginx, "caddy": caddy}


class Front:
    """A proxy as a process. `folder`: of its log; `command`: serves at this port. `kill` kills its workers too."""

    def __init__(self, folder: Path, command: list[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._log = folder / "proxy.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once a coordinator behind it takes requests."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, start_new_session=True)
        until = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, self._log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=30).status_code == 200:
                    return
            assert time.monotonic() < until, self._log.read_text()
            time.sleep(0.05)  # nobody says when it listens

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


@pytest.mark.long
@pytest.mark.parametrize("disturb", [kill_leader, kill_follower])
@pytest.mark.parametrize("made", PROXIES.values(), ids=PROXIES)
def test_a_run_ends_through_it_whichever_replica_dies(
    postgres: PostgresServer, tmp_path: Path, made: Made, disturb: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with replicas(postgres, tmp_path, trusted_proxies="127.0.0.1") as two:
        port = free_port()
        front = Front(tmp_path, made(tmp_path, port, [one.port for one in two]), port)
        try:
            front.start()
            check(two, postgres, disturb, through=front.url)
        finally:
            front.kill()
