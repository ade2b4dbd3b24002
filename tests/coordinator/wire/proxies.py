"""A proxy of one of the sites in deploy/proxies, as a real process, without TLS."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.coordinator.served import free_port
from tests.programs import program

DEPLOY: Final = Path(__file__).resolve().parents[3] / "deploy"
NAME: Final = "coordinator.example"
SHIPPED_SITES: Final = {path.name: path.read_text() for path in sorted((DEPLOY / "proxies").iterdir())}


def _installed(name: str) -> str:
    found = program(name)
    if found is None:
        pytest.skip(f"{name}, which the test asks through, is not on this machine")
    return found


@contextmanager
def proxied(folder: Path, site: str, upstream: int) -> Iterator[str]:
    """The proxy of this site, without TLS, at a free port of the loopback; the site's port 8080 is `upstream`."""
    port, config, log = free_port(), folder / "proxy.conf", folder / "proxy.log"
    site = re.sub(r"\{\$\w+:([^}]*)\}", r"\1", site).replace(":8080", f":{upstream}")
    site = site.replace("/var/cache/thinwire", str(folder / "cache"))
    if "reverse_proxy" in site:
        command = [_installed("caddy"), "run", "--adapter", "caddyfile", "--config", str(config)]
        config.write_text("{\n\tadmin off\n}\n" + site.replace(f"{NAME} {{", f"http://{NAME}:{port} {{"))
    else:
        command = [_installed("nginx"), "-p", str(folder), "-c", str(config)]
        site = re.sub(r"^\s*(listen \[::\].*|ssl_.*)\n", "", site, flags=re.MULTILINE)
        site = re.sub(r"listen 443[^;]*;", f"listen 127.0.0.1:{port};", site)
        places = " ".join(
            f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # Root's workers are another user's otherwise, who may not see this folder.
        head = f"{'user root;' if os.geteuid() == 0 else ''} daemon off; pid {folder}/pid; error_log {log}; events {{}}"
        config.write_text(f"{head} http {{ access_log off; {places}\n{site}\n}}")
    with log.open("ab") as written:
        process = subprocess.Popen(command, stdout=written, stderr=written, env={**os.environ, "HOME": str(folder)})
    try:
        until = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz", headers={"host": NAME})
                break
            except httpx.TransportError:
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
