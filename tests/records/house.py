"""Runs, exchanges, tasks and answers to try the laws of their verbs on."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import insert, select

from thinwire.coordinator.records import tables
from thinwire.coordinator.records.answers import Answers
from thinwire.coordinator.records.clients import Clients
from thinwire.coordinator.records.events import Events
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.leases import Lease, Leases
from thinwire.coordinator.records.payloads import Payloads
from thinwire.coordinator.records.presence import Presence
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.tasks import NewTask, Tasks
from thinwire.coordinator.records.uploads import Uploads
from thinwire.coordinator.runs.closed import Figures
from thinwire.coordinator.runs.rows import ExchangeRow
from thinwire.protocol.fields import RunState
from thinwire.protocol.settings import RunSettings

if TYPE_CHECKING:
    from tests.records.conftest import Records

NOW: Final = 1_800_000_000.0
PLAN, PART, DELTA, MODEL, PRIVATE = (bytes([value]) * 32 for value in range(1, 6))
T = TypeVar("T")


class House:
    """An empty database with the verbs of all that runs are made of."""

    def __init__(self, records: Records) -> None:
        self.records = records
        database = records.database
        self.leases = Leases(database)
        self.clients = Clients(database)
        self.runs = Runs(database)
        self.exchanges = Exchanges(database)
        self.tasks = Tasks(database)
        self.answers = Answers(database)
        self.payloads = Payloads(database)
        self.presence = Presence(database)
        self.uploads = Uploads(database)
        self.events = Events(database)

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        """What the call returns or raises."""
        return self.records.run(call)

    # -- rows to begin with -----------------------------------------------------------------------------------

    def enrol(self, *names: str, revoked: bool = False) -> None:
        """Clients of these names, as far as a task cares."""
        rows = [
            {
                "name": name, "group": "default", "role": "client", "token_hash": b"t" * 32, "invite_hash": b"i" * 32,
                "seen": True, "enrolled_at": NOW, "revoked_at": NOW if revoked else None,
            }
            for name in names
        ]  # fmt: skip
        self.records.write(insert(tables.clients).values(rows))

    def run(self, run: str = "run1", *, state: RunState = "running", now: float = NOW, **settings: Any) -> Lease:
        """A run of this id, its name as well, in this state; its lease."""
        chosen = RunSettings(name=run, **settings)
        self.do(self.runs.create(run, chosen, spec=None, parameters=20, round=0, step=0, max_runs=100, now=now))
        lease = self.do(self.leases.acquire(run, "holder", None))
        assert lease is not None
        if state != "pending":
            self.do(self.runs.set_state(lease, state, None, now))
        return lease

    def exchange(self, lease: Lease, index: int = 0, *clients: str, offer: int = 1) -> list[str]:
        """An open exchange that asks these clients; their tasks."""
        self.do(self.exchanges.open(lease, replace(OPENED, run=lease.run, exchange=index), [PART, DELTA], NOW))
        return self.ask(lease, index, *clients, offer=offer)

    def ask(self, lease: Lease, index: int, *clients: str, offer: int = 1) -> list[str]:
        """The tasks of these clients, in an exchange that is open."""
        new = [
            NewTask(f"{lease.run}{index}{offer}{name}", slot, offer, name, None) for slot, name in enumerate(clients)
        ]
        self.do(self.tasks.offer(lease, index, new))
        return [task.id for task in new]

    def arrive(self, task: str, client: str, **also: Any) -> None:
        """An answer for this task, with a payload."""
        values: dict[str, Any] = {"examples": 10, "metrics": {"loss": 0.5}, "digest": b"a" * 32, "size": 80, "now": NOW}
        self.do(self.answers.arrive(task, client, **{**values, **also}))

    def state(self, task: str) -> str:
        """Of this task."""
        query = select(tables.tasks.c.state).where(tables.tasks.c.id == task)
        return self.do(self.records.database.read(lambda connection: str(connection.execute(query).scalar_one())))


OPENED: Final = ExchangeRow(
    run="run1", exchange=0, round=0, step=0, kind="train", plan=PLAN,
    parts=[["model", {"w": ["float32", [20]]}, [PART.hex(), 80], [DELTA.hex(), 40]]], options={"epochs": 2},
    max_payload_bytes=100, cohort="new", size=2, offers=1, seconds=0.0, left_s=60.0, clock_at=NOW, closed=False,
    answers=0, metrics={}, opened_at=NOW, closed_at=None,
)  # fmt: skip
CLOSING: Final = Figures(exchange=0, seconds=5.0, answers=1, offers=1, metrics={"loss": 0.5})
