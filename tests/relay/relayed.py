"""A relay as a real process, behind it a counting proxy in the place of the thin link."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx

from tests import forked
from tests.coordinator.served import free_port
from thinwire.operator.processes import Running


class Relayed:
    """A relay of `url`. `kill` is SIGKILL; `start` goes on with the same folder and port."""

    def __init__(self, url: str, folder: Path) -> None:
        self._words = [
            "-m", "thinwire.operator", "relay", url, "--data-dir", str(folder / "relay"),
            "--stats", str(folder / "relay.json"), "--stalled-after", "20",
        ]  # fmt: skip
        self._log = folder / "relay.log"
        self._stats = folder / "relay.json"
        self.folder = folder / "relay"
        self.port = free_port()
        self.process: Running | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            words = [*self._words, "--port", str(self.port)]
            self.process = forked.start(words, log.fileno(), environment={**os.environ, "PYTHONWARNINGS": "error"})
        until = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log[-3000:]
            try:
                if httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                assert time.monotonic() < until
                time.sleep(0.05)

    def end(self, how: int) -> int | None:
        if self.process is None:
            return None
        self.process.send_signal(how)
        code, self.process = self.process.wait(30), None
        return code

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def stats(self) -> dict[str, Any]:
        """What it has written at its end."""
        found: dict[str, Any] = json.loads(self._stats.read_text())
        return found
