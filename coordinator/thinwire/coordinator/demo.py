"""One coordinator and N clients as processes of this machine, and a run of theirs from first model to last."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from thinwire.protocol.messages import (
    ExchangeMetrics,
    Invite,
    InviteRequest,
    Ledger,
    RunMetrics,
    RunRequest,
    RunView,
    StoredModel,
)
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from .operate import ADDRESS_FILE, Operator, find_token
from .processes import Child, ChildFailedError, Children, finish
from .rounds import Round, rounds_of
from .secret_files import write_secret
from .watch import Step

COORDINATOR: Final = "thinwire.coordinator"
EDGE_CLIENT: Final = "thinwire.edge_client"
START_TIMEOUT_S: Final = 180.0
DOWNLOAD_TIMEOUT_S: Final = 3600.0
END_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Fleet:
    """The clients of a demo. `link`: emulated by every client on its own socket. `data`, `architecture`, `limit`,
    `allow`, `download`, `device`, `own_first`: as for `thinwire-client join`; several architectures, separated by
    commas, take turns.
    """

    clients: int
    task: str
    split: str
    seed: int
    link: str | None
    data: Path | None = None
    architecture: str | None = None
    limit: str | None = None
    allow: tuple[str, ...] = ()
    download: bool = False
    device: str = "cpu"
    own_first: bool = True

    def options(self, index: int) -> list[str]:
        """Of the client's command line: what it learns and on which data."""
        architectures = (self.architecture or "").split(",")
        given = {
            "--task": self.task,
            "--data": None if self.data is None else str(self.data),
            "--architecture": architectures[index % len(architectures)].strip() or None,
            "--seed": str(self.seed),
        }
        words = [word for option, value in given.items() if value is not None for word in (option, value)]
        return [*words, "--download"] if self.download else words


@dataclass(frozen=True, slots=True)
class Result:
    """A run that is over. `kernel`: client -> (sent, received) bytes as its kernel counted, to the last one."""

    view: RunView
    exchanges: list[ExchangeMetrics]
    ledger: Ledger
    kernel: Mapping[str, tuple[int, int]]
    model: Path | None
    seconds: float

    @property
    def rounds(self) -> list[Round]:
        return rounds_of(self.exchanges)


def run_demo(fleet: Fleet, settings: RunSettings, folder: Path, say: Callable[[str], None], step: Step) -> Result:
    """The run's result; all processes have ended. `folder`: empty; data folders and logs of all of them go there.

    Raises: `ChildFailedError`, `ProblemError`, `UnreachableError`, `OSError`.
    """
    began = time.monotonic()
    with Children(folder / "logs") as children:
        operator = start_coordinator(children, folder, say)
        try:
            if fleet.download:
                # One process fetches the data, and all others find them.
                first_model(children, operator, fleet, folder)
            clients = start_clients(children, operator, fleet, folder)
            say(f"{fleet.clients} clients start, logs in {folder / 'logs'}")
            model = first_model(children, operator, fleet, folder)
            view = operator.ask("POST", "/v1/runs", RunView, RunRequest(settings=settings, model=model))
            for sentence in view.warnings or ():
                say(f"warning: {sentence}")
            view = follow_run(children, operator, view, step)
            if view.outcome == "completed":
                for child in clients:
                    finish(child, END_TIMEOUT_S)
            return _result(operator, view, clients, folder, time.monotonic() - began)
        finally:
            operator.close()


def _environment() -> dict[str, str]:
    # Many small processes on few cores: threads of theirs would only get in each other's way.
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def start_coordinator(children: Children, folder: Path, say: Callable[[str], None]) -> Operator:
    """Requests to a coordinator that has just been started and listens."""
    place = folder / "coordinator"
    address = place / ADDRESS_FILE
    arguments = ["serve", "--port", "0", "--data-dir", str(place)]
    child = children.start("coordinator", COORDINATOR, arguments, _environment())
    _until(children, address.exists, child, "does not listen")
    url = json.loads(address.read_text())["url"]
    say(f"coordinator at {url}")
    return Operator(url, find_token(place))


def start_clients(children: Children, operator: Operator, fleet: Fleet, folder: Path) -> list[Child]:
    """One process for each client; they end when every run is over."""
    invite = operator.ask("POST", "/v1/invites", Invite, InviteRequest(uses=fleet.clients, expires_in_s=None))
    invite_file = folder / "invite"
    write_secret(invite_file, invite.invite)
    clients = []
    for index in range(fleet.clients):
        name = client_name(index)
        arguments = [
            "join", operator.url, "--invite-file", str(invite_file), "--name", name, *fleet.options(index),
            "--split", fleet.split, "--share", f"{index}/{fleet.clients}", "--threads", "1",
            "--device", fleet.device, "--data-dir", str(folder / name), "--stats", str(folder / f"{name}.json"),
        ]  # fmt: skip
        if fleet.limit is not None:
            arguments += ["--limit", fleet.limit]
        if not fleet.own_first:
            arguments.append("--no-own-first")
        for permission in fleet.allow:
            arguments += ["--allow", permission]
        if fleet.link is not None:
            arguments += ["--link", fleet.link]
        clients.append(children.start(name, EDGE_CLIENT, arguments, _environment()))
    return clients


def client_name(index: int) -> str:
    """The stable name of the demo's clients: randomness is derived from it."""
    return f"client-{index:02d}"


def first_model(children: Children, operator: Operator, fleet: Fleet, folder: Path) -> bytes:
    """The digest of the task's first model, which the coordinator holds from now on."""
    first = folder / "first-model.safetensors"
    arguments = ["model", "init", *fleet.options(0), "--out", str(first)]
    child = children.start("model-init", EDGE_CLIENT, arguments, _environment())
    limit_s = DOWNLOAD_TIMEOUT_S if fleet.download else START_TIMEOUT_S
    _until(children, lambda: child.process.poll() == 0, child, "makes no model", limit_s)
    return operator.send_file("/v1/models", first, StoredModel).digest


def follow_run(children: Children, operator: Operator, view: RunView, step: Step) -> RunView:
    """The run when it is over or paused. Asking, instead of listening, leaves time to look after the processes."""
    path, shown, rounds = f"/v1/runs/{view.id}", None, list[Round]()
    while True:
        view = operator.ask("GET", path, RunView)
        now = (view.state, view.exchange, view.answers)
        if now != shown:
            if shown is None or now[:2] != shown[:2]:
                rounds = rounds_of(operator.ask("GET", f"{path}/metrics", RunMetrics).exchanges)
            step(view, rounds)
            shown = now
        if view.state in ("finished", "paused"):
            return view
        children.check()
        time.sleep(POLL_S)


def _result(operator: Operator, view: RunView, clients: list[Child], folder: Path, seconds: float) -> Result:
    kernel = {child.name: kernel_counts(folder, child.name) for child in clients if child.process.poll() == 0}
    return result_of(operator, view, folder / "model.safetensors", kernel, seconds)


def result_of(
    operator: Operator, view: RunView, model: Path, kernel: Mapping[str, tuple[int, int]], seconds: float
) -> Result:
    """What the coordinator says of a run that is over; its model, if it has one, is written to `model`."""
    path = f"/v1/runs/{view.id}"
    try:
        operator.fetch_file(f"{path}/model", model)
    except ProblemError as error:
        if error.reason not in ("no-global-model", "model-not-ready"):
            raise
    return Result(
        view=view,
        exchanges=operator.ask("GET", f"{path}/metrics", RunMetrics).exchanges,
        ledger=operator.ask("GET", f"{path}/ledger", Ledger),
        kernel=kernel,
        model=model if model.exists() else None,
        seconds=seconds,
    )


def kernel_counts(folder: Path, client: str) -> tuple[int, int]:
    """Bytes sent and received by a client that has ended, as its kernel counted."""
    counted: dict[str, Any] = json.loads((folder / f"{client}.json").read_text())["kernel"]
    return counted["sent"], counted["received"]


def _until(
    children: Children, reached: Callable[[], bool], child: Child, what: str, limit_s: float = START_TIMEOUT_S
) -> None:
    ends = time.monotonic() + limit_s
    while not reached():
        children.check()
        if time.monotonic() > ends:
            raise ChildFailedError(child, what)
        time.sleep(0.05)
