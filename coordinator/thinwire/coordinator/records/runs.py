"""Runs: created, commanded, led, finished."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from thinwire.coordinator.runs.best import Best
from thinwire.coordinator.runs.rows import RunCommand, RunRow
from thinwire.protocol.command_options import invalid
from thinwire.protocol.fields import RunOutcome, RunState
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from .carried import forget_carried
from .database import Database, upsert
from .events import add_event
from .leases import Lease, fence
from .payloads import NO_EXCHANGE
from .prepared import Prepared
from .tables import answers, events, exchanges, leases, payloads, presence, runs, tasks, uploads
from .uploads import delete_uploads

_OF_ID = select(runs).where(runs.c.id == bindparam("of"))
_ONE, _LOCKED = Prepared(_OF_ID), Prepared(_OF_ID.with_for_update())
_CALLED = Prepared(
    select(runs).where(or_(runs.c.id == bindparam("key"), runs.c.name == bindparam("key")))
    .order_by(runs.c.id != bindparam("key"))
)  # fmt: skip
_STATE = Prepared(select(runs.c.state).where(runs.c.id == bindparam("of")))
_SPEC = bindparam("of_spec", type_=LargeBinary)
_WANTING = Prepared(
    select(runs.c.id)
    .where(
        runs.c.group == bindparam("of_group"), runs.c.state != "finished",
        or_(cast(_SPEC, LargeBinary).is_(None), runs.c.spec.is_(None), runs.c.spec == _SPEC),
    )
    .limit(1)
)  # fmt: skip
_OF_GROUP = select(runs).where(runs.c.group == bindparam("of_group")).order_by(runs.c.created_at, runs.c.id)


class Runs:
    """The rows of runs. Every verb raises `storage-failed`, and those that write `storage-full`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        run: str,
        settings: RunSettings,
        *,
        spec: bytes | None,
        parameters: int,
        round: int,
        step: int,
        max_runs: int,
        now: float,
    ) -> RunRow:
        """A new run, pending. `round`, `step`: of its first state. Raises: `run-exists`, `too-many-requests`."""
        row: dict[str, Any] = {
            "id": run, "name": settings.name, "group": settings.group,
            "settings": settings.model_dump(mode="json", by_alias=True), "spec": spec, "parameters": parameters,
            "state": "pending", "damaged": False, "exchange": 0, "round": round, "step": step, "created_at": now,
        }  # fmt: skip

        def work(connection: Connection) -> RunRow:
            new = upsert(connection, runs).values(row).on_conflict_do_nothing(index_elements=["name"])
            if connection.execute(new.returning(runs.c.id)).scalar_one_or_none() is None:
                raise ProblemError("run-exists", f"there is a run named {settings.name!r}")
            if connection.execute(select(func.count()).select_from(runs)).scalar_one() > max_runs:
                raise ProblemError("too-many-requests", "this coordinator takes no further runs")
            add_event(connection, run, "run", now)
            return _get(connection, run)

        return await self._database.transaction(work, durable=True)

    async def all(self) -> list[RunRow]:
        """Every run, the oldest first."""
        return await self._select()

    async def of_group(self, group: str) -> list[RunRow]:
        """The runs that clients of this group may serve, the oldest first."""
        return await self._database.read(
            lambda connection: [_row(row) for row in connection.execute(_OF_GROUP, {"of_group": group})]
        )

    async def wants(self, group: str, spec: bytes | None) -> bool:
        """Whether a run of this group that is not over may ask clients whose model has this spec; None fits any."""
        wanted = {"of_group": group, "of_spec": spec}
        return await self._database.look(lambda connection: bool(_WANTING.all(connection, wanted)))

    async def is_over(self, run: str) -> bool:
        """Whether the run is finished. Raises: `run-not-found`."""

        def work(connection: Connection) -> bool:
            state = _STATE.scalar(connection, {"of": run})
            if state is None:
                raise ProblemError("run-not-found", f"no run has the id {run[:64]!r}")
            return bool(state == "finished")

        return await self._database.look(work)

    async def unfinished(self) -> list[RunRow]:
        """The runs that somebody has to lead, the oldest first."""
        return await self._select(runs.c.state != "finished")

    async def _select(self, *which: ColumnElement[bool]) -> list[RunRow]:
        query = select(runs).where(*which).order_by(runs.c.created_at, runs.c.id)
        return await self._database.read(lambda connection: [_row(row) for row in connection.execute(query)])

    async def get(self, run: str) -> RunRow:
        """By id. Raises: `run-not-found`."""
        return await self._database.look(lambda connection: _get(connection, run))

    async def find(self, key: str) -> RunRow:
        """By id, or else by name. Raises: `run-not-found`."""

        def work(connection: Connection) -> RunRow:
            row = _CALLED.first(connection, {"key": key})
            if row is None:
                raise ProblemError("run-not-found", f"no run is called {key[:64]!r}")
            return _row(row)

        return await self._database.look(work)

    async def command(self, run: str, command: RunCommand) -> RunRow:
        """Notes what the operator wants, for the run's leader to carry out; a newer command takes the place of one that
        is not carried out yet. The run as it stands. Raises: `run-not-found`, `run-state`.
        """

        def work(connection: Connection) -> RunRow:
            row = _get(connection, run, lock=True)
            resuming = row.command == "resume"
            halting = (row.command is not None or row.state == "paused") and not resuming
            refused = (command == "resume" and not halting) or (command.startswith("pause") and halting)
            if row.finished or refused:
                raise ProblemError("run-state", f"the run is {row.outcome or row.command or row.state}")
            connection.execute(update(runs).where(runs.c.id == run).values(command=command))
            return _get(connection, run)

        return await self._database.transaction(work)

    async def change(self, run: str, settings: RunSettings, now: float) -> RunRow:
        """Other settings for a paused run, in force when it goes on. Durable. Raises: `run-not-found`, `run-state`."""
        values = settings.model_dump(mode="json", by_alias=True)

        def work(connection: Connection) -> RunRow:
            row = _get(connection, run, lock=True)
            if row.state != "paused" or row.command is not None or row.damaged:
                raise ProblemError("run-state", f"the run is {row.outcome or row.command or row.state}: pause it first")
            connection.execute(update(runs).where(runs.c.id == run).values(settings=values))
            add_event(connection, run, "run", now)
            return _get(connection, run)

        return await self._database.transaction(work, durable=True)

    async def delete(self, run: str) -> None:
        """The run and all that was asked and answered in it are gone; its bytes stay in the ledger, since they were
        spent. Durable. Raises: `run-not-found`, `run-state`: it is not over.
        """

        def work(connection: Connection) -> None:
            row = _get(connection, run, lock=True)
            if not row.finished:
                raise ProblemError("run-state", f"the run is {row.state}: stop it first")
            asked = select(tasks.c.id).where(tasks.c.run == run)
            for by_task in (answers, uploads):
                connection.execute(delete(by_task).where(by_task.c.task.in_(asked)))
            for by_run in (tasks, exchanges, payloads, events, leases):
                connection.execute(delete(by_run).where(by_run.c.run == run))
            connection.execute(delete(runs).where(runs.c.id == run))

        await self._database.transaction(work, durable=True)

    async def begin_anew(self, lineages: Callable[[], str]) -> None:
        """After a restore: every run that is not over goes on from the exchange at which it stood, in a lineage of its
        own; what was asked and answered in that exchange is forgotten, and who holds what, too. Durable.
        """

        def work(connection: Connection) -> None:
            connection.execute(delete(presence))
            unfinished = select(runs.c.id, runs.c.exchange, runs.c.restored_at).where(runs.c.state != "finished")
            for run, exchange, before in connection.execute(unfinished).all():
                asked = select(tasks.c.id).where(tasks.c.run == run, tasks.c.exchange >= exchange)
                for table in (answers, uploads):
                    connection.execute(delete(table).where(table.c.task.in_(asked)))
                for table in (tasks, exchanges):
                    connection.execute(delete(table).where(table.c.run == run, table.c.exchange >= exchange))
                forget_carried(connection, run, exchange)
                again = {"lineage": lineages(), "restored_at": exchange if before is None else min(before, exchange)}
                connection.execute(update(runs).where(runs.c.id == run).values(again))

        await self._database.transaction(work, durable=True)

    async def set_state(
        self,
        lease: Lease,
        state: RunState,
        reason: str | None,
        now: float,
        *,
        obeyed: RunCommand | None = None,
        damaged: bool | None = None,
    ) -> None:
        """Where the run stands, and why. `obeyed`: the command that this carries out, which stays if another has taken
        its place meanwhile; `damaged` None: as it was. Raises: `LeaseLostError`.
        """
        values: dict[str, Any] = {"state": state, "reason": reason}
        if obeyed is not None:
            values["command"] = case((runs.c.command == obeyed, None), else_=runs.c.command)
        if damaged is not None:
            values["damaged"] = damaged

        def work(connection: Connection) -> None:
            fence(connection, lease)
            connection.execute(update(runs).where(runs.c.id == lease.run).values(values))
            add_event(connection, lease.run, "run", now)

        await self._database.transaction(work)

    async def finish(
        self,
        lease: Lease,
        outcome: RunOutcome,
        reason: str | None,
        model: bytes | None,
        now: float,
        best: Sequence[Best] = (),
    ) -> None:
        """The run is over: what it still asked for is late, and of its payloads only the final model stays, and the
        files of its best ones. Durable. Raises: `LeaseLostError`.
        """
        files = list(dict.fromkeys(digest for digest in (model, *(one.model for one in best)) if digest is not None))

        def work(connection: Connection) -> None:
            fence(connection, lease)
            row = _get(connection, lease.run)
            oldest = row.exchange - (row.settings.max_staleness or 0)
            asked = (tasks.c.run == lease.run) & tasks.c.exchange.between(oldest, row.exchange)
            connection.execute(update(tasks).where(asked, tasks.c.state == "open").values(state="late"))
            delete_uploads(connection, lease.run, oldest, row.exchange)
            connection.execute(delete(payloads).where(payloads.c.run == lease.run))
            if files:
                named = {"run": lease.run, "exchange": NO_EXCHANGE, "client": "", "kind": "model"}
                connection.execute(insert(payloads), [{**named, "digest": digest} for digest in files])
            values: dict[str, Any] = {
                "outcome": outcome, "reason": reason, "model": model, "finished_at": now,
                "best": [one.to_plain() for one in best],
            }  # fmt: skip
            over = update(runs).where(runs.c.id == lease.run)
            connection.execute(over.values(state="finished", command=None, **values))
            add_event(connection, lease.run, "run", now)

        await self._database.transaction(work, durable=True)


def _get(connection: Connection, run: str, *, lock: bool = False) -> RunRow:
    row = (_LOCKED if lock else _ONE).first(connection, {"of": run})
    if row is None:
        raise ProblemError("run-not-found", f"no run has the id {run[:64]!r}")
    return _row(row)


def _row(row: Any) -> RunRow:
    found = {**row._asdict(), "best": tuple(map(Best.from_plain, row.best or ()))}
    try:
        return RunRow(**{**found, "settings": RunSettings.model_validate(row.settings)})
    except ValidationError as error:
        why = f"this version cannot read the run's settings: {invalid(error)}"
        return RunRow(**{**found, "settings": _stand_in(row), "unreadable": why})


def _stand_in(row: Any) -> RunSettings:
    """What can be said of settings that cannot be read."""
    stored = row.settings if isinstance(row.settings, dict) else {}
    known = {"name": row.name, "group": row.group}
    for name in ("method", "rounds", "cohort"):
        with contextlib.suppress(ValidationError):
            RunSettings.model_validate({**known, name: stored.get(name)})
            known[name] = stored.get(name)
    return RunSettings.model_validate(known)
