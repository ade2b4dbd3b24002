"""Real processes: a coordinator, clients of it, and what an operator would ask."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from thinwire.operator import lab
from thinwire.operator.fleet import client_name
from thinwire.operator.lab import Lab
from thinwire.operator.processes import Child, Children, Running
from thinwire.protocol.messages import Ledger

DEADLINE_S = 120.0
ENVIRONMENT = {**os.environ, **lab.ENVIRONMENT}


def until(reached: Callable[[], Any], children: Children | None = None) -> Any:
    """What `reached` returns as soon as it is true."""
    ends = time.monotonic() + DEADLINE_S
    while not (found := reached()):
        if children is not None:
            children.check()
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.05)
    return found


class ForkedChildren(Children):
    """Starts them by `tests.forked`."""

    def _launch(self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Running:
        with log.open("ab") as output:
            return forked.start(["-m", module, *arguments], output.fileno(), environment=environment)


class Service(Lab):
    """One coordinator process and its clients, which learn the digits; `clients`: by name."""

    def __init__(self, folder: Path, *options: str, **given: Any) -> None:
        super().__init__(folder, options, children=ForkedChildren(folder / "logs"), **given)
        self.clients: dict[str, Child] = {}

    def join_digits(self, index: int, clients: int, *options: str, url: str | None = None) -> Child:
        """Starts one client."""
        name = client_name(index)
        words = ("--task", "digits", "--split", "iid", "--share", f"{index}/{clients}", "--seed", "0", *options)
        self.clients[name] = self.join(name, self.write_invite(name), words, url=url)
        return self.clients[name]

    def ledger(self, run: str) -> Ledger:
        return self.operator.ask("GET", f"/v1/runs/{run}/ledger", Ledger)

    def fetch_model(self, run: str, path: Path) -> Path:
        """The file with a run's model."""
        self.operator.fetch_file(f"/v1/runs/{run}/model", path)
        return path

    def clients_have_ended(self) -> bool:
        return all(child.process.poll() == 0 for child in self.clients.values())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A coordinator over plain HTTP; at the end all processes end."""
    with Service(tmp_path) as made:
        made.serve()
        yield made


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first model of the digits, as `thinwire-client model init` makes it."""
    from thinwire.edge_client.model import first_model
    from thinwire.edge_client.problems.built_in import find_problem
    from thinwire.methods.model_file import model_bytes

    path = tmp_path_factory.mktemp("model") / "first.safetensors"
    path.write_bytes(model_bytes(first_model(find_problem("digits"), 0)))
    return path


def interrupt(child: Child, number: int = signal.SIGINT) -> int:
    """Sends the signal and returns the exit code."""
    child.process.send_signal(number)
    return child.process.wait(DEADLINE_S)
