"""The configurations in deploy/proxies, in the programs that they are for, TLS on: a run goes through each, events come
as they happen, and the coordinator hears for whom is asked.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.certificates import signed
from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, free_port, model
from tests.postgres_server import PostgresServer
from tests.programs import program
from thinwire.codecs import Spec
from thinwire.operator.async_client import AsyncCoordinator
from thinwire.operator.doctor import examine_coordinator
from thinwire.protocol.encoding import spec_digest

FILES = Path(__file__).resolve().parents[2] / "deploy" / "proxies"
HOST = "localhost"
Made = Callable[[Path, int, int], list[str]]
"""Writes a configuration (folder, port, port of the coordinator); the command that takes it."""


def _tool(name: str) -> str:
    found = program(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    return found


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


@contextmanager
def _proxied(folder: Path, command: list[str], port: int, trust: ssl.SSLContext) -> Iterator[str]:
    """The address of a proxy, once the coordinator behind it takes requests."""
    url, log = f"https://{HOST}:{port}", folder / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        until = time.monotonic() + 30
        while True:
            assert process.poll() is None, log.read_text()
            try:
                if httpx.get(f"{url}/readyz", verify=trust).status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < until
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.long
@pytest.mark.parametrize("made", [_nginx, _caddy], ids=["nginx", "caddy"])
def test_a_run_goes_through(
    serve: Callable[..., Served], tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    served, port, certificate = serve(trusted_proxies="127.0.0.1"), free_port(), signed(tmp_path, HOST)
    trust = ssl.create_default_context(cafile=str(certificate.authority))
    with _proxied(tmp_path, made(tmp_path, port, served.port), port, trust) as url:
        # Through a proxy nobody reads without a token.
        assert httpx.get(f"{url}/v1/runs", verify=trust).json()["reason"] == "token-missing"
        asyncio.run(_run(served, url, trust, certificate.authority))
        # Nor does doctor find anything to say, but that the test's certificate ends soon.
        token = served.operator["authorization"].removeprefix("Bearer ")
        found = [one for one in examine_coordinator(url, token, certificate.authority) if one.state != "ok"]
        assert [one.check for one in found] == ["certificate"], found


@pytest.mark.long
def test_what_is_composed_works_together(
    serve: Callable[..., Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> None:
    """The database, the store, the coordinator and the proxy of deploy/compose.yaml, with its words, from wheels."""
    pytest.importorskip("obstore", reason="pip install 'thinwire[objects]'")
    services = yaml.safe_load((FILES.parent / "compose.yaml").read_text())["services"]
    given = {"AWS_SECRET_ACCESS_KEY": "composed", "POSTGRES_PASSWORD": "unused"}
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "store").mkdir()
    with _store(tmp_path / "store", services["store"], services["bucket"], given) as address:
        for name, text in services["coordinator"]["environment"].items():
            monkeypatch.setenv(name, _filled(text, given))
        monkeypatch.setenv("AWS_ENDPOINT", address)
        objects = os.environ["THINWIRE_OBJECTS"]
        served = serve(database=postgres.create(), objects=objects, trusted_proxies="127.0.0.1", allowed_hosts=HOST)
        port, certificate = free_port(), signed(tmp_path, HOST)
        trust = ssl.create_default_context(cafile=str(certificate.authority))
        with _proxied(tmp_path, _caddy(tmp_path, port, served.port), port, trust) as url:
            asyncio.run(_run(served, url, trust, certificate.authority))


def _filled(text: str, given: dict[str, str]) -> str:
    """As compose does: `${NAME:-default}` and `${NAME:?}`."""
    return re.sub(r"\$\{(\w+):[-?]([^}]*)\}", lambda found: given.get(found[1], found[2]), text)


@contextmanager
def _store(folder: Path, service: dict[str, Any], bucket: dict[str, Any], given: dict[str, str]) -> Iterator[str]:
    """The address of the composed store, at ports of its own, once its bucket has been made, twice."""
    names = ("s3.port", "master.port", "volume.port", "filer.port")
    ports = {name: free_port() for name in (*names, *(f"{name}.grpc" for name in names))}
    command = [word.replace("/data", str(folder)) for word in service["command"]]
    command += ["-ip=127.0.0.1", *(f"-{name}={port}" for name, port in ports.items())]
    variables = {name: _filled(text, given) for name, text in service["environment"].items()}
    address = f"http://127.0.0.1:{ports['s3.port']}"
    (check,) = (word for word in service["healthcheck"]["test"] if word.startswith("http"))
    with subprocess.Popen(
        [_tool("weed"), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
        env={**os.environ, **variables},
    ) as process:  # fmt: skip
        try:
            until = time.monotonic() + 60
            while True:
                assert process.poll() is None
                try:
                    if httpx.get(f"{address}{urlsplit(check).path}").is_success:
                        break
                except httpx.TransportError:
                    assert time.monotonic() < until
                time.sleep(0.1)
            master = f"127.0.0.1:{ports['master.port']}.{ports['master.port.grpc']}"
            made = bucket["command"][0].replace("weed ", f"{_tool('weed')} ").replace("store:9333", master)
            for _ in range(2):
                subprocess.run([*bucket["entrypoint"], made], check=True, capture_output=True, timeout=60, cwd=folder)
            yield address
        finally:
            process.terminate()


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
