"""One coordinator and its clients as processes of this machine, all in one folder; and runs of theirs.

Demo, comparison, benchmarks and tests start them here and nowhere else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from thinwire.machine.files import write_atomic
from thinwire.methods.rounds import Round, rounds_of
from thinwire.protocol.messages import RunMetrics, RunView
from thinwire.protocol.places import ADDRESS_FILE, LOOPBACK
from thinwire.protocol.settings import RunSettings

from . import requests
from .access import find_token
from .client import Coordinator
from .fleet import Fleet, client_name
from .follow import Step
from .processes import Child, ChildFailedError, Children, finish
from .requests import Command
from .tables import score_of

COORDINATOR: Final = "thinwire.coordinator"
EDGE_CLIENT: Final = "thinwire.edge_client"
# Many small processes on few cores: threads of theirs would only get in each other's way.
ENVIRONMENT: Final[Mapping[str, str]] = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
START_TIMEOUT_S: Final = 180.0
DOWNLOAD_TIMEOUT_S: Final = 3600.0
END_TIMEOUT_S: Final = 60.0
LOOK_S: Final = 0.05
POLL_S: Final = 0.2


class Lab:
    """A coordinator, from `serve` on, and clients of it. On leaving the context all processes have ended.

    `coordinator`: the process that was started last. `folder`: of all data and logs; `options`: of `thinwire serve`;
    `ca_file`: the certificate to trust, where it serves TLS; `environment`: of the processes, beside this one's;
    `children`: what starts the processes, where that is not `Children`. Everything may raise `ChildFailedError`,
    `ProblemError`, `UnreachableError` and `OSError`.
    """

    coordinator: Child

    def __init__(
        self, folder: Path, options: Sequence[str] = (), *, ca_file: Path | None = None,
        environment: Mapping[str, str] = ENVIRONMENT, children: Children | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.children = Children(folder / "logs") if children is None else children
        self._options = list(options)
        self._ca_file = ca_file
        self._environment = environment
        self._operator: Coordinator | None = None

    def __enter__(self) -> Self:
        self.children.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._forget_operator()
        self.children.__exit__(*error)

    # -- the coordinator --------------------------------------------------------------------------------------

    @property
    def data_dir(self) -> Path:
        """The coordinator's folder."""
        return self.folder / "coordinator"

    @property
    def listens(self) -> bool:
        """Whether the coordinator that was started last takes requests."""
        return (self.data_dir / ADDRESS_FILE).exists()

    @property
    def url(self) -> str:
        """Where it listens; a certificate names the host, not its address."""
        url = str(json.loads((self.data_dir / ADDRESS_FILE).read_text())["url"])
        return url if self._ca_file is None else url.replace("127.0.0.1", "localhost")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def operator(self) -> Coordinator:
        """Requests to the coordinator as its operator, until it is started again."""
        if self._operator is None:
            self._operator = self.connect()
        return self._operator

    def connect(self) -> Coordinator:
        """Further requests to it, beside those of `operator`; to be closed."""
        return Coordinator(self.url, find_token(self.data_dir), ca_file=self._ca_file)

    def serve(self, port: int = 0) -> Child:
        """Starts the coordinator, for the first time or again; it listens."""
        self.start_coordinator(port)
        self.wait(lambda: self.listens, self.coordinator, "does not listen")
        return self.coordinator

    def start_coordinator(self, port: int = 0) -> None:
        """Starts it, and does not wait."""
        self._forget_operator()
        (self.data_dir / ADDRESS_FILE).unlink(missing_ok=True)
        arguments = ["--port", str(port), "--data-dir", str(self.data_dir), *self._options]
        self.coordinator = self._start("coordinator", COORDINATOR, arguments)

    def kill(self) -> int:
        """Kills it as a power cut would; the port that it had."""
        port = self.port
        self.coordinator.process.kill()
        self.coordinator.process.wait()
        self.children.forget(self.coordinator)
        return port

    # -- clients ----------------------------------------------------------------------------------------------

    def invite(self, uses: int = 1, *, group: str = "default") -> str:
        """The code of an invite that does not expire."""
        return self.operator.invite(uses=uses, group=group).invite

    def write_invite(self, name: str, uses: int = 1, *, group: str = "default") -> Path:
        """The file with it, in the folder."""
        path = self.folder / f"{name}.invite"
        write_atomic(path, f"{self.invite(uses, group=group)}\n".encode(), fsync=False)
        return path

    def join(self, name: str, invite: Path, options: Iterable[str], *, url: str | None = None) -> Child:
        """Starts a client with these options beside those that every client of a lab has. `url`: of what stands before
        the coordinator.
        """
        arguments = [
            "join", url or self.url, "--invite-file", str(invite), "--name", name, "--threads", "1",
            "--data-dir", str(self.folder / name), "--stats", str(self.folder / f"{name}.json"), *options,
        ]  # fmt: skip
        if self._ca_file is not None:
            arguments += ["--ca-file", str(self._ca_file)]
        return self._start(name, EDGE_CLIENT, arguments)

    def join_fleet(self, fleet: Fleet, options: Sequence[str] = ()) -> list[Child]:
        """Starts all clients of a fleet; they end when every run is over. `options`: of each, beside the fleet's."""
        invite = self.write_invite("fleet", fleet.clients)
        return [
            self.join(client_name(index), invite, [*fleet.joins(index), *options]) for index in range(fleet.clients)
        ]

    def kernel(self, name: str) -> tuple[int, int]:
        """Bytes sent and received by a client that has ended, as its kernel counted."""
        counted: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())["kernel"]
        return counted["sent"], counted["received"]

    # -- runs -------------------------------------------------------------------------------------------------

    def first_model(self, options: Sequence[str], *, timeout_s: float = START_TIMEOUT_S) -> Path:
        """The file that `thinwire-client model init` makes of these options."""
        path = self.folder / "first-model.safetensors"
        child = self._start("model-init", EDGE_CLIENT, ["model", "init", *options, "--out", str(path)])
        self.wait(lambda: child.process.poll() == 0, child, "makes no model", timeout_s)
        return path

    def first_model_of(self, fleet: Fleet) -> Path:
        """The first model of a fleet's task."""
        return self.first_model(fleet.learns(0), timeout_s=DOWNLOAD_TIMEOUT_S if fleet.download else START_TIMEOUT_S)

    def store(self, model: Path) -> bytes:
        """The digest of a model, which the coordinator holds from now on."""
        return self.operator.store_model(model).digest

    def start_run(self, model: Path | bytes, settings: RunSettings) -> RunView:
        """A run from a file, or from what the coordinator holds under a digest."""
        digest = self.store(model) if isinstance(model, Path) else model
        return self.operator.start_run(settings, digest)

    def park_run(self, model: bytes, settings: RunSettings) -> RunView:
        """A run that waits for `play`: clients with a run still to come stay connected."""
        return self.command(self.start_run(model, settings), "pause", drop=True)

    def play(self, view: RunView, step: Step) -> RunView:
        """A parked run when it is over; one that pauses by itself is stopped, and why it paused is its reason."""
        over = self.follow(self.command(view, "resume"), step)
        return over if over.state == "finished" else self.give_up(over)

    def give_up(self, view: RunView) -> RunView:
        """A run that cannot go on, stopped; its reason stays."""
        return self.command(view, "stop", drop=True).model_copy(update={"reason": view.reason})

    def command(self, view: RunView, word: Command, *, drop: bool = False) -> RunView:
        """The run after pause, resume or stop. `drop`: the open exchange is not finished first."""
        return self.operator.command(view.id, word, "drop" if drop else "finish")

    def view(self, run: str) -> RunView:
        return self.operator.run(run)

    def metrics(self, run: str) -> RunMetrics:
        return self.operator.send(requests.metrics(run))

    def follow(self, view: RunView, step: Step | None = None) -> RunView:
        """The run when it is over or paused. Asking, instead of listening, leaves time to look after the processes."""
        shown, rounds = None, list[Round]()
        while True:
            view = self.view(view.id)
            now = (view.state, view.exchange, view.answers)
            if step is not None and now != shown:
                if shown is None or now[:2] != shown[:2]:
                    rounds = rounds_of(self.metrics(view.id).exchanges, score_of(view))
                step(view, rounds)
                shown = now
            if view.state in ("finished", "paused"):
                return view
            self.children.check()
            time.sleep(POLL_S)

    # -- processes --------------------------------------------------------------------------------------------

    def wait(self, reached: Callable[[], bool], child: Child, what: str, limit_s: float = START_TIMEOUT_S) -> None:
        """Until it is reached. `what`: said of the child if that takes too long."""
        ends = time.monotonic() + limit_s
        while not reached():
            self.children.check()
            if time.monotonic() > ends:
                raise ChildFailedError(child, what)
            time.sleep(LOOK_S)

    def finish(self, clients: Iterable[Child]) -> None:
        """Waits until these have ended by themselves, and well."""
        for child in clients:
            finish(child, END_TIMEOUT_S)

    def _start(self, name: str, module: str, arguments: Sequence[str]) -> Child:
        # A proxy of the environment would be asked for addresses that only this machine has.
        no_proxy = ",".join([os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")), *sorted(LOOPBACK)])
        given = {**os.environ, "no_proxy": no_proxy, "NO_PROXY": no_proxy, **self._environment}
        return self.children.start(name, module, arguments, given)

    def _forget_operator(self) -> None:
        if self._operator is not None:
            self._operator.close()
            self._operator = None
