"""The configurations in deploy/proxies, in the programs that they are for, TLS on: a run goes through each, events come
as they happen, and the coordinator hears for whom is asked.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, free_port, model
from thinwire.codecs import Spec
from thinwire.operator.async_client import AsyncCoordinator
from thinwire.protocol.encoding import spec_digest

FILES = Path(__file__).resolve().parents[2] / "deploy" / "proxies"
HOST = "localhost"
Made = Callable[[Path, int, int], list[str]]
"""Writes a configuration (folder, port, port of the coordinator); the command that takes it."""


def _tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    return found


def _certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "fullchain.pem", folder / "privkey.pem"
    command = [
        _tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}",
        "-addext", f"subjectAltName=DNS:{HOST}", "-out", str(certificate), "-keyout", str(key),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def _nginx(folder: Path, port: int, upstream: int) -> list[str]:
    text = (FILES / "nginx.conf").read_text().replace("coordinator.example", HOST)
    text = re.sub(r"listen \[::\]:443 ssl;\n", "", text).replace("listen 443", f"listen 127.0.0.1:{port}")
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{upstream}")
    text = text.replace(f"/etc/letsencrypt/live/{HOST}", str(folder))
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{head}http {{\naccess_log off;\n{places}{text}}}\n")
    return [_tool("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def _caddy(folder: Path, port: int, upstream: int) -> list[str]:
    text = (
        (FILES / "Caddyfile")
        .read_text()
        .replace(
            "{$THINWIRE_HOST:coordinator.example} {",
            f"https://{HOST}:{port} {{\n\ttls {folder}/fullchain.pem {folder}/privkey.pem",
        )
    )
    text = text.replace("{$THINWIRE_COORDINATOR:127.0.0.1:8080}", f"127.0.0.1:{upstream}")
    (folder / "Caddyfile").write_text(
        "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n" + text
    )
    return [_tool("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@pytest.mark.long
@pytest.mark.parametrize("made", [_nginx, _caddy], ids=["nginx", "caddy"])
def test_a_run_goes_through(
    serve: Callable[..., Served],
    tmp_path: Path,
    made: Callable[[Path, int, int], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    served, port = serve(trusted_proxies="127.0.0.1"), free_port()
    certificate, _ = _certificate(tmp_path)
    command = made(tmp_path, port, served.port)
    with (tmp_path / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url, trust = f"https://{HOST}:{port}", ssl.create_default_context(cafile=str(certificate))
    try:
        until = time.monotonic() + 30
        while True:
            assert process.poll() is None, (tmp_path / "proxy.log").read_text()
            try:
                if httpx.get(f"{url}/readyz", verify=trust).status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < until
                time.sleep(0.05)
        # Through a proxy nobody reads without a token.
        assert httpx.get(f"{url}/v1/runs", verify=trust).json()["reason"] == "token-missing"
        asyncio.run(_run(served, url, trust, certificate))
    finally:
        process.terminate()
        process.wait(30)


async def _run(served: Served, url: str, trust: ssl.SSLContext, certificate: Path) -> None:
    """Large payloads, so that uploads and downloads are streams; the events are told while the run waits."""
    large = model(60_000)
    run = served.run(large, rounds=1, evaluate=False, name="through")
    token = served.operator["authorization"].removeprefix("Bearer ")
    async with AsyncCoordinator(url, token, ca_file=certificate) as coordinator:
        events = coordinator.events("through")
        assert (await asyncio.wait_for(anext(events), 20)).kind == "run"
        async with httpx.AsyncClient(base_url=url, timeout=60, verify=trust) as http:
            clients = [NumpyClient(http, f"far-{index}", spec=spec_digest(Spec.of(large))) for index in range(2)]
            invite = served.invite()
            for client in clients:
                await client.enrol(invite)
            parked = asyncio.create_task(clients[0].register(wait_s=30))
            # With one of two clients the run begins for nobody; an event stream that is held back would time out here.
            other = asyncio.create_task(clients[1].work())
            task = await parked
            assert task is not None
            data, examples = clients[0].perform(await clients[0].fetch(task))
            assert len(data) > 1 << 19
            assert (await clients[0].answer(task.task, data, examples)).status_code == 200
            kinds = [event.kind async for event in events]
            await other
        assert kinds.count("exchange") == 1
        assert (await coordinator.run(run["id"])).outcome == "completed"
