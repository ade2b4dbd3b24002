"""What operators tell runs: to begin, to pause, to go on, to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog
from pydantic import ValidationError

from thinwire.coordinator.objects.objects import Objects, checkpoint, model
from thinwire.coordinator.objects.states import put_state
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.runs.definitions import Definitions
from thinwire.coordinator.runs.identity import fresh_id
from thinwire.coordinator.runs.rows import RunCommand, RunRow
from thinwire.coordinator.signals.signals import Signals
from thinwire.machine.workers import Workers
from thinwire.methods.definition import Definition, define
from thinwire.methods.model_file import read_model
from thinwire.methods.registry import find_method
from thinwire.methods.values import EVALUATE, State
from thinwire.protocol.command_options import invalid
from thinwire.protocol.messages import RunChange, RunRequest
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

_log = structlog.get_logger("thinwire.coordinator")
COMMAND_S: Final = 10.0
"""An operator's request waits this long for its command to be carried out."""


class Commands:
    """The rows take what is wanted; the run's leader does it. `clock`: Unix seconds."""

    def __init__(
        self,
        runs: Runs,
        exchanges: Exchanges,
        definitions: Definitions,
        objects: Objects,
        signals: Signals,
        workers: Workers,
        *,
        max_runs: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runs = runs
        self._exchanges = exchanges
        self._definitions = definitions
        self._objects = objects
        self._signals = signals
        self._workers = workers
        self._max_runs = max_runs
        self._clock = clock

    async def create_run(self, request: RunRequest) -> RunRow:
        """A new run, waiting for its clients. Raises: `run-exists`, `run-invalid`, `too-many-requests`,
        `storage-failed`, `storage-full`, OSError.
        """
        settings = request.settings
        if any(row.name == settings.name for row in await self._runs.all()):
            raise ProblemError("run-exists", f"there is a run named {settings.name!r}")
        definition, state = await self._workers.run(self._define, request)
        try:
            row = await self._runs.create(
                definition.id, definition.run, spec=definition.spec, parameters=definition.parameters,
                round=state.round, step=state.step, max_runs=self._max_runs, now=self._clock(),
            )  # fmt: skip
        except BaseException:
            await self._workers.run(self._objects.delete, [checkpoint(definition.id, 0)])
            raise
        _log.info(
            "run created", run=settings.name, id=row.id, method=settings.method, group=row.group,
            rounds=settings.rounds, cohort=settings.cohort,
        )  # fmt: skip
        self._definitions.add(definition)
        self._signals.publish("runs", row.id)
        self._signals.publish(f"group:{row.group}", row.id)
        return row

    def _define(self, request: RunRequest) -> tuple[Definition, State]:
        """In a thread: the definition and the first state, whose checkpoint lies in the objects."""
        try:
            arrays = read_model(self._objects.local(model(request.model)))
        except FileNotFoundError:
            raise ProblemError("run-invalid", "no model has this digest: send it to /v1/models first") from None
        run = fresh_id()
        definition = define(run, request.settings).for_model(arrays)
        return definition, put_state(self._objects, run, 0, definition.first_state(arrays))

    async def change(self, key: str, change: RunChange) -> RunRow:
        """A paused run with other settings, in force when it goes on. Raises: `run-not-found`, `run-state`,
        `run-invalid`, `storage-failed`, `storage-full`.
        """
        row = await self._runs.find(key)
        wanted = change.model_dump(exclude_none=True)
        if wanted.get("rounds", row.settings.rounds) != row.settings.rounds:
            if not find_method(row.settings.method).extends:
                raise ProblemError("run-invalid", f"{row.settings.method} plans all rounds from the first one on")
            if wanted["rounds"] < row.settings.rounds:
                raise ProblemError("run-invalid", f"rounds only grow: there are {row.settings.rounds}; else stop it")
            opened = await self._exchanges.get(row.id, row.exchange)
            if opened is not None and opened.kind == EVALUATE:
                raise ProblemError("run-state", "the run is being evaluated: its rounds are over")
        try:
            settings = RunSettings.model_validate({**row.settings.model_dump(by_alias=False), **wanted})
        except ValidationError as error:
            raise ProblemError("run-invalid", invalid(error)) from None
        await self._workers.run(lambda changed: define(row.id, changed, spec=row.spec), settings)
        changed = await self._runs.change(row.id, settings, self._clock())
        self._signals.publish(f"events:{row.id}")
        return changed

    async def delete(self, key: str) -> None:
        """A run that is over is gone, its model and figures with it; its bytes stay in the ledger.

        Raises: `run-not-found`, `run-state`, `storage-failed`, `storage-full`, OSError.
        """
        row = await self._runs.find(key)
        await self._runs.delete(row.id)
        _log.info("run deleted", run=row.name, id=row.id)
        # Files that stay behind by a crash cost disk, nothing else.
        await self._workers.run(self._delete_objects, row.id)

    def _delete_objects(self, run: str) -> None:
        for folder in (f"payloads/{run}", f"checkpoints/{run}"):
            self._objects.delete(list(self._objects.names(folder)))

    async def command(self, key: str, command: RunCommand) -> RunRow:
        """The run as it stands when the command has been carried out, if that needs no open exchange to end.

        Raises: `run-not-found`, `run-state`, `storage-failed` (the run is damaged, and still is), `storage-full`.
        """
        run = (await self._runs.find(key)).id
        with self._signals.subscribe(f"events:{run}") as heard:
            row = await self._runs.command(run, command)
            self._signals.publish(f"run:{run}", "command")
            until = time.monotonic() + COMMAND_S
            if command in ("pause", "stop") and not row.damaged and row.state == "running":
                opened = await self._exchanges.get(run, row.exchange)
                if opened is not None:
                    return row
            while row.command is not None and (left_s := until - time.monotonic()) > 0:
                await heard.wait(left_s)
                row = await self._runs.get(run)
        if command == "resume" and row.damaged:
            raise ProblemError("storage-failed", row.reason or "")
        return row
