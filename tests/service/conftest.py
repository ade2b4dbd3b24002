"""Real processes: a coordinator, clients of it, and what an operator would ask."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from thinwire.coordinator.operate import ADDRESS_FILE, Operator, find_token
from thinwire.coordinator.processes import Child, Children
from thinwire.protocol.messages import Invite, InviteRequest, Ledger, RunMetrics, RunRequest, RunView, StoredModel
from thinwire.protocol.settings import RunSettings

DEADLINE_S = 120.0
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def until(reached: Callable[[], Any], children: Children | None = None) -> Any:
    """What `reached` returns as soon as it is true."""
    ends = time.monotonic() + DEADLINE_S
    while not (found := reached()):
        if children is not None:
            children.check()
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.05)
    return found


@dataclass
class Service:
    """One coordinator process and its clients, all in one folder."""

    folder: Path
    children: Children
    options: list[str] = field(default_factory=list)
    ca_file: Path | None = None
    process: Child | None = None
    clients: dict[str, Child] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        return self.folder / "coordinator"

    @property
    def address(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data_dir / ADDRESS_FILE).read_text())
        return found

    @property
    def url(self) -> str:
        return str(self.address["url"]).replace("127.0.0.1", "localhost")

    def serve(self, port: int = 0) -> None:
        """Starts the coordinator, for the first time or again."""
        (self.data_dir / ADDRESS_FILE).unlink(missing_ok=True)
        arguments = ["serve", "--port", str(port), "--data-dir", str(self.data_dir), *self.options]
        self.process = self.children.start("coordinator", "thinwire.coordinator", arguments, ENVIRONMENT)
        until((self.data_dir / ADDRESS_FILE).exists, self.children)

    def kill(self) -> int:
        """Kills the coordinator as a power cut would; the port that it had."""
        assert self.process is not None
        port = int(self.url.rpartition(":")[2])
        self.process.process.kill()
        self.process.process.wait()
        self.children.forget(self.process)
        return port

    def operator(self) -> Operator:
        return Operator(self.url, find_token(self.data_dir), ca_file=self.ca_file)

    def join(self, index: int, clients: int, url: str, *options: str) -> Child:
        """Starts one client of the digits."""
        name = f"client-{index:02d}"
        invite = self.folder / f"{name}.invite"
        operator = self.operator()
        invite.write_text(operator.ask("POST", "/v1/invites", Invite, InviteRequest(expires_in_s=None)).invite)
        operator.close()
        arguments = [
            *("join", url, "--invite-file", str(invite), "--name", name, "--task", "digits", "--split", "iid"),
            *("--share", f"{index}/{clients}", "--seed", "0", "--threads", "1", "--data-dir", str(self.folder / name)),
            *("--stats", str(self.folder / f"{name}.json"), *options),
        ]
        if self.ca_file is not None:
            arguments += ["--ca-file", str(self.ca_file)]
        self.clients[name] = self.children.start(name, "thinwire.edge_client", arguments, ENVIRONMENT)
        return self.clients[name]

    def kernel(self, name: str) -> tuple[int, int]:
        """(sent, received) bytes as the client's kernel counted them to its end."""
        counted = json.loads((self.folder / f"{name}.json").read_text())["kernel"]
        return counted["sent"], counted["received"]

    def start_run(self, model: Path, settings: RunSettings) -> RunView:
        operator = self.operator()
        stored = operator.send_file("/v1/models", model, StoredModel)
        view = operator.ask("POST", "/v1/runs", RunView, RunRequest(settings=settings, model=stored.digest))
        operator.close()
        return view

    def ask(self, run: str, what: str, kind: Any) -> Any:
        operator = self.operator()
        try:
            return operator.ask("GET", f"/v1/runs/{run}{what}", kind)
        finally:
            operator.close()

    def view(self, run: str) -> RunView:
        found: RunView = self.ask(run, "", RunView)
        return found

    def metrics(self, run: str) -> RunMetrics:
        found: RunMetrics = self.ask(run, "/metrics", RunMetrics)
        return found

    def ledger(self, run: str) -> Ledger:
        found: Ledger = self.ask(run, "/ledger", Ledger)
        return found

    def clients_have_ended(self) -> bool:
        return all(child.process.poll() == 0 for child in self.clients.values())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A coordinator over plain HTTP; at the end all processes end."""
    with Children(tmp_path / "logs") as children:
        made = Service(tmp_path, children)
        made.serve()
        yield made


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    with Children(tmp_path / "logs") as made:
        yield made


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first model of the digits, as `thinwire-client model init` makes it."""
    from thinwire.edge_client.model import first_model, model_bytes
    from thinwire.edge_client.problems.built_in import find_problem

    path = tmp_path_factory.mktemp("model") / "first.safetensors"
    path.write_bytes(model_bytes(first_model(find_problem("digits"), 0)))
    return path


def interrupt(child: Child, number: int = signal.SIGINT) -> int:
    """Sends the signal and returns the exit code."""
    child.process.send_signal(number)
    return child.process.wait(DEADLINE_S)
