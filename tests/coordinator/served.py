"""A coordinator as a real process on a free port, with the toy method on its path."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import thinwire.methods
from tests import forked
from thinwire.codecs import Array
from thinwire.methods.model_file import model_bytes
from thinwire.operator.processes import Running

HERE = Path(__file__).parent
METHODS_ROOT = HERE / "methods_root"
TOY = METHODS_ROOT / "thinwire" / "methods"
if str(TOY) not in thinwire.methods.__path__:
    thinwire.methods.__path__.append(str(TOY))


@dataclass
class Served:
    """A running coordinator. `kill` is SIGKILL; `start` goes on with the same folder and port. `prefix`: of the command
    line of an interpreter of its own; without one it is forked.
    """

    data_dir: Path
    port: int
    options: dict[str, Any] = field(default_factory=dict)
    process: Running | None = None
    prefix: list[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        script = HERE / "serve.py"
        options = [f"{key}={value}" for key, value in self.options.items()]
        words = [str(script), str(self.data_dir), str(self.port), *options]
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        with (self.data_dir / "log.txt").open("ab") as log:
            if self.prefix is None:
                self.process = forked.start(words, log.fileno(), environment=environment)
            else:
                line = [*self.prefix, sys.executable, *words]
                self.process = subprocess.Popen(line, stdout=log, stderr=log, env=environment)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self.process.poll() is None, (self.data_dir / "log.txt").read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError("the coordinator did not become ready")

    def end(self, how: int) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def stop(self) -> None:
        self.end(signal.SIGTERM)

    @property
    def log(self) -> str:
        return (self.data_dir / "log.txt").read_text()

    @property
    def operator(self) -> dict[str, str]:
        return {"authorization": f"Bearer {(self.data_dir / 'operator.token').read_text().strip()}"}

    def post(self, path: str, json: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=json, headers=self.operator, timeout=30)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers={**self.operator, **headers}, timeout=30)

    def invite(self, **wanted: Any) -> str:
        response = self.post("/v1/invites", {"uses": 100, **wanted})
        assert response.status_code == 201, response.text
        return str(response.json()["invite"])

    def run(self, arrays: dict[str, Array] | None = None, **settings: Any) -> dict[str, Any]:
        """A new run of the toy method."""
        data = model_bytes(arrays or model(100))
        stored = httpx.post(f"{self.url}/v1/models", content=data, headers=self.operator, timeout=30)
        assert stored.status_code == 201, stored.text
        wanted = {"method": "toy", "rounds": 2, "cohort": 2, **settings}
        response = self.post("/v1/runs", {"settings": wanted, "model": stored.json()["digest"]})
        assert response.status_code == 201, response.text
        found: dict[str, Any] = response.json()
        return found


def model(size: int) -> dict[str, Array]:
    """Arrays to begin with."""
    random = np.random.default_rng(7)
    return {"weight": random.standard_normal((size, 4)).astype(np.float32), "bias": np.zeros(4, np.float32)}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
