"""The coordinator: its parts, put together; started, stopped, and started again where it left off."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import structlog
from sqlalchemy import insert, update

from thinwire.protocol.fields import RunState
from thinwire.protocol.messages import ExchangeMetrics, RunRequest
from thinwire.protocol.reasons import ProblemError

from . import tables
from .access import Access
from .dispatch import Dispatch
from .driver import Driver
from .exchange import lose
from .folder import Folder
from .intake import Intake
from .ledger import Ledger
from .ledger_store import load_ledger, save_ledger
from .objects.problems import storage_problem
from .plans import define, first_state, model_facts, read_model
from .presence import Presence, serves
from .quotas import Quotas
from .restore import restore_damaged, restore_runs
from .runs import OpenExchange, Run
from .settings import ServeSettings
from .store import Store
from .uploads import Uploads, fresh_id
from .wire.downloads import Downloads

SAVE_S = 2.0
"""Between two writes of the ledger and of the time that open exchanges have left."""
COMMAND_S = 10.0
"""An operator's request waits this long for its command to be carried out."""
P = ParamSpec("P")
R = TypeVar("R")
_log = structlog.get_logger("thinwire.coordinator")


class Coordinator:
    """`start` first, `stop` last. `tasks`: id -> run, exchange and slot of every task of an open exchange.

    `publishing` is held while payloads are written that nothing names yet, and while unnamed ones are deleted.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.folder = Folder(settings.data_dir, fsync_answers=settings.durability == "fsync")
        self.folder.create()
        self.store = Store(settings.data_dir / "thinwire.db")
        self.access = Access(
            self.store,
            settings.data_dir,
            max_clients=settings.max_clients,
        )
        self.ledger = Ledger()
        self.presence = Presence(settings.present_for_s)
        self.quotas = Quotas(settings)
        self.uploads = Uploads(self.store, self.folder, self.quotas, expires_s=settings.upload_expires_s)
        self.intake = Intake(self, settings.workers)
        self.downloads = Downloads(settings.data_dir / "downloads")
        self.dispatch = Dispatch(self)
        self.runs: dict[str, Run] = {}
        self.tasks: dict[str, tuple[Run, OpenExchange, int]] = {}
        self.links: dict[str, tuple[int, int]] = {}
        self.fresh_links: set[str] = set()
        self.publishing = asyncio.Lock()
        self.ready, self.failure = False, ""
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="thinwire")
        self._drivers: dict[str, asyncio.Task[None]] = {}
        self._saving: asyncio.Task[None] | None = None

    # -- life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Everything as the last process left it; its runs go on. Raises: `storage-failed`."""
        await self.store.open()
        await self.access.load()
        await self.uploads.load()
        await load_ledger(self)
        await restore_runs(self)
        await self.compute(self.folder.drop_payloads, self._needed())
        for run in self.runs.values():
            self._drive(run)
        self._saving = asyncio.create_task(self._save_regularly(), name="save")
        self.ready = True

    async def stop(self) -> None:
        """Ends parked polls and drivers, stores what is known. Open exchanges stay open."""
        self.ready = False
        self.presence.wake_all()
        await self.intake.close()
        for task in (*self._drivers.values(), self._saving):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        with contextlib.suppress(ProblemError):
            await self.access.save()
            await save_ledger(self)
            await self._save_clocks()
        await self.store.close()
        self._threads.shutdown()

    async def measure_disk(self) -> None:
        """So that `quotas` knows what the data folder holds, where that is limited."""
        if self.settings.max_disk_bytes is not None:
            await self.compute(self.quotas.measure)

    async def compute(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result, from a worker thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            try:
                await self.access.save()
                await save_ledger(self)
                await self._save_clocks()
                await self.uploads.expire(time.monotonic())
            except (ProblemError, OSError) as error:
                _log.error("ledger not saved", error=str(error))

    async def _save_clocks(self) -> None:
        table, now = tables.exchanges, time.monotonic()
        statements = []
        for run in self.runs.values():
            if (opened := run.open) is not None:
                due_at = opened.exchange.due_at
                values = {"seconds": now - opened.opened_at, "left_s": None if due_at is None else max(0, due_at - now)}
                mine = (table.c.run == run.id) & (table.c.exchange == opened.index)
                statements.append(update(table).where(mine).values(**values))
        if statements:
            await self.store.write(*statements)

    def _drive(self, run: Run) -> None:
        if not run.finished and not run.damaged:
            self._drivers[run.id] = asyncio.create_task(Driver(self, run).drive(), name=f"drive-{run.id}")

    def task_of(self, client: str, task: str) -> tuple[Run, OpenExchange, int] | None:
        """The run, exchange and slot of a task that this client got, while its exchange is open."""
        found = self.tasks.get(task)
        return found if found is not None and found[1].exchange.slots[found[2]].client == client else None

    # -- who is there -----------------------------------------------------------------------------------------

    def present(self, run: Run) -> set[str]:
        """The clients that could be asked now, busy ones included."""
        return self.presence.present(run, time.monotonic())

    def members(self, run: Run) -> set[str]:
        """The clients that could ever come."""
        found = set()
        for name, client in self.access.clients.items():
            seen = self.presence.find(name)
            if not client.revoked and serves(client, None if seen is None else seen.spec, run):
                found.add(name)
        return found

    def free(self, run: Run) -> set[str]:
        """The present clients without a task of another run."""
        busy = {
            slot.client
            for other in self.runs.values()
            if other is not run and other.open is not None and other.state == "running"
            for slot in other.open.exchange.slots
            if slot.state == "open"
        }
        return self.present(run) - busy

    async def revoke(self, name: str, *, invite: bool = False) -> None:
        """Shuts a client out at once: token, parked poll, open slots, transfers. `invite`: and whoever else has the
        invite it came with. Raises: `not-found`.
        """
        await self.access.revoke(name, invite=invite)
        self.downloads.cut(name)
        await self.uploads.release_client(name)
        for run in self.runs.values():
            if run.open is not None:
                run.open.exchange = lose(run.open.exchange, name)
                run.wake.set()
        self.presence.forget(name)

    # -- runs -------------------------------------------------------------------------------------------------

    def run(self, key: str) -> Run:
        """By id or name. Raises: `run-not-found`."""
        if key in self.runs:
            return self.runs[key]
        for run in self.runs.values():
            if run.definition.run.name == key:
                return run
        raise ProblemError("run-not-found", f"no run is called {key[:64]!r}")

    async def create_run(self, request: RunRequest) -> Run:
        """A new run, waiting for its clients. Raises: `run-exists`, `run-invalid`, `not-found` (the model)."""
        settings = request.settings
        if any(run.definition.run.name == settings.name for run in self.runs.values()):
            raise ProblemError("run-exists", f"there is a run named {settings.name!r}")
        if len(self.runs) >= self.settings.max_runs:
            raise ProblemError("too-many-requests", "this coordinator takes no further runs")
        path = self.folder.model(request.model)
        if not path.exists():
            raise ProblemError("run-invalid", "no model has this digest: send it to /v1/models first")
        run = await self.compute(self._make_run, request)
        if any(other.definition.run.name == settings.name for other in self.runs.values()):
            raise ProblemError("run-exists", f"there is a run named {settings.name!r}")
        self.runs[run.id] = run
        definition = run.definition
        row = {
            "id": run.id, "name": settings.name, "settings": settings.model_dump(mode="json", by_alias=True),
            "spec": definition.spec, "parameters": definition.parameters, "state": "pending", "exchange": 0,
            "round": run.at.round, "step": run.at.step, "created_at": run.created_at,
        }  # fmt: skip
        try:
            await self.store.write(insert(tables.runs).values(**row), durable=True)
        except ProblemError:
            del self.runs[run.id]
            raise
        self._drive(run)
        return run

    def _make_run(self, request: RunRequest) -> Run:
        model = read_model(self.folder.model(request.model))
        run_id = fresh_id()
        method = define(run_id, request.settings).method
        spec, parameters = model_facts(method, model)
        definition = define(run_id, request.settings, spec=spec, parameters=parameters)
        state = self.folder.put_state(run_id, 0, first_state(definition, model))
        return Run(definition, state, created_at=time.time())

    async def command(self, run: Run, command: str, *, drop: bool) -> None:
        """Pause, resume or stop; what needs no open exchange to end is done on return. Raises: `run-state`,
        `storage-failed` (the run is damaged, and still is).
        """
        pausing = run.state == "paused" or run.command is not None
        if run.finished or (command == "resume" and not pausing) or (command == "pause" and pausing):
            raise ProblemError("run-state", f"the run is {run.outcome or run.command or run.state}")
        if run.damaged and command == "stop":
            await Driver(self, run).finish("stopped", run.reason)
            return
        if run.damaged:
            await restore_damaged(self, run)
            self._drive(run)
        table = tables.runs
        if command == "resume":
            state: RunState = "running" if run.index or run.open is not None else "pending"
            mine = update(table).where(table.c.id == run.id)
            await self.store.write(mine.values(state=state, reason=None, command=None))
            run.state, run.reason, run.command, run.resumed = state, None, None, True
            run.tell_state()
            run.wake.set()
            self.presence.wake_all()
            return
        wanted = f"{command}-drop" if drop else command
        await self.store.write(update(table).where(table.c.id == run.id).values(command=wanted))
        run.command = wanted
        run.wake.set()
        if drop or run.open is None or run.state != "running":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMAND_S), run.changed:
                    await run.changed.wait_for(lambda: run.command is None)

    # -- after an exchange ------------------------------------------------------------------------------------

    def with_bytes(self, run: Run, metrics: ExchangeMetrics) -> ExchangeMetrics:
        """The metrics with the exchange's bytes as the ledger has them now."""
        tally, before = self.ledger.exchange(run.id, metrics.exchange), self.ledger.before(run.id, metrics.exchange)
        return metrics.model_copy(
            update={
                "uplink_bytes": tally.uplink,
                "downlink_bytes": tally.downlink,
                "uplink_payload_bytes": tally.uplink_payload,
                "downlink_payload_bytes": tally.downlink_payload,
                "uplink_bytes_before": before.uplink,
                "downlink_bytes_before": before.downlink,
            }
        )

    async def release(self, run: Run, tasks: list[str]) -> None:
        """Deletes what the closing of an exchange has made useless. A failure costs disk, nothing else."""
        try:
            self.intake.forget(tasks)
            await self.uploads.release(set(tasks))
            await self.compute(self.folder.drop_answers, tasks)
            await self.compute(self.folder.drop_checkpoints, run.id, {run.index, run.index - 1})
            async with self.publishing:
                await self.compute(self.folder.drop_payloads, self._needed())
            await save_ledger(self)
        except (OSError, ProblemError) as error:
            problem = error if isinstance(error, ProblemError) else storage_problem(error)
            _log.error("not released", run=run.id, reason=problem.reason)

    def _needed(self) -> set[bytes]:
        return set().union(*(run.needs() for run in self.runs.values()))
