"""The serving side without a server: rows in SQLite, objects in a folder, signals in process. What the leader of a run
would do is done by hand, with the verbs of the records.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select

from thinwire.coordinator.objects.local import LocalObjects
from thinwire.coordinator.objects.objects import payload
from thinwire.coordinator.objects.partial import Partials
from thinwire.coordinator.records import tables
from thinwire.coordinator.records.answers import Answers as AnswerRows
from thinwire.coordinator.records.clients import Client, Clients
from thinwire.coordinator.records.database import Database
from thinwire.coordinator.records.events import Events as EventRows
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.invites import Invites
from thinwire.coordinator.records.leases import Lease, Leases
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.payloads import Payloads as PayloadRows
from thinwire.coordinator.records.presence import Presence as PresenceRows
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.secrets import Secrets
from thinwire.coordinator.records.tasks import NewTask, Tasks
from thinwire.coordinator.records.troubles import Troubles
from thinwire.coordinator.records.uploads import Uploads as UploadRows
from thinwire.coordinator.runs.closed import Figures
from thinwire.coordinator.runs.definitions import Definitions
from thinwire.coordinator.runs.exchange import SlotState
from thinwire.coordinator.runs.rows import ExchangeRow
from thinwire.coordinator.serve.answers import Answers
from thinwire.coordinator.serve.commands import Commands
from thinwire.coordinator.serve.enrolment import Enrolment
from thinwire.coordinator.serve.events import Events
from thinwire.coordinator.serve.exchanges import ExchangeBook
from thinwire.coordinator.serve.models import Models
from thinwire.coordinator.serve.noting import Noting
from thinwire.coordinator.serve.payloads import Payloads
from thinwire.coordinator.serve.presence import Presence
from thinwire.coordinator.serve.quotas import Limits, Quotas
from thinwire.coordinator.serve.reads import Reads
from thinwire.coordinator.serve.registrations import Registrations
from thinwire.coordinator.serve.tasks import TaskBook, TaskMessages
from thinwire.coordinator.serve.uploads import Uploads
from thinwire.coordinator.signals.local import LocalSignals
from thinwire.coordinator.wire.identity import hash_of
from thinwire.machine.workers import Workers
from thinwire.protocol.messages import Enrolment as EnrolmentMessage
from thinwire.protocol.messages import InviteRequest, Registration, TaskMessage
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

PATIENCE_S: Final = 60.0
MAX_PAYLOAD_BYTES: Final = 1 << 20


async def never() -> None:
    """A connection that stays."""
    await asyncio.Event().wait()


class House:
    """`now`: Unix seconds. `ended`: whose token was told to be worth nothing, in order."""

    def __init__(self, folder: Path, *, limits: Limits | None = None) -> None:
        self.now, self.ended = 1_800_000_000.0, list[str]()
        self.folder, self.signals, self.troubles = folder, LocalSignals(), Troubles()
        self.objects, self.partials, self.workers = LocalObjects(folder), Partials(folder), Workers(2)
        self.database = database = Database(folder / "thinwire.db")
        self.runs, self.exchanges, self.tasks = Runs(database), Exchanges(database), Tasks(database)
        self.answer_rows, self.clients, self.ledger = AnswerRows(database), Clients(database), Ledger(database)
        self.presence_rows, self.upload_rows = PresenceRows(database), UploadRows(database)
        self.leases: dict[str, Lease] = {}
        self._leases, self._counts = Leases(database), dict[str, int]()

        def clock() -> float:
            return self.now

        definitions = Definitions()
        self.quotas = Quotas(limits or Limits(4, 1 << 30, 1 << 30), lambda: 0)
        noting = Noting(self.troubles, self.signals)
        self.enrolment = Enrolment(
            self.clients, Invites(database), Secrets(database), self.signals, folder,
            max_clients=1000, ended=self.ended.append, clock=clock,
        )  # fmt: skip
        self.presence = Presence(self.presence_rows, self.signals, clock)
        facts = ExchangeBook(self.exchanges, self.objects, self.workers)
        self.book = TaskBook(self.tasks, facts)
        messages = TaskMessages(facts, self.book, self.workers, clock)
        self.registrations = Registrations(
            self.enrolment, self.presence, self.runs, self.tasks, messages, self.signals
        )  # fmt: skip
        self.uploads = Uploads(
            self.upload_rows, self.partials, self.objects, self.signals, self.quotas, self.workers, noting,
            expires_s=60.0, clock=clock,
        )  # fmt: skip
        self.answers = Answers(
            self.runs, self.tasks, self.answer_rows, self.uploads, self.objects, self.signals, self.workers, noting,
            self.ledger, durable=False, clock=clock,
        )  # fmt: skip
        self.models = Models(
            self.runs, self.exchanges, definitions, self.objects, self.partials, self.quotas, self.workers,
            max_bytes=1 << 20, promised=lambda: self.uploads.promised_bytes,
        )  # fmt: skip
        self.payloads = Payloads(PayloadRows(database), self.tasks, self.objects, self.models)
        self.commands = Commands(
            self.runs, self.exchanges, definitions, self.objects, self.signals, self.workers,
            max_runs=3, clock=clock,
        )  # fmt: skip
        self.reads = Reads(
            self.runs, self.exchanges, self.tasks, self.ledger, self.troubles, definitions, self.enrolment,
            self.presence,
        )  # fmt: skip
        self.events = Events(EventRows(database), self.reads, self.signals)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        """Everything as the last process left it."""
        self.objects.open()
        self.partials.open()
        await self.database.open()
        for row in await self.runs.all():
            lease = await self._leases.acquire(row.id, "by hand", None)
            assert lease is not None
            self.leases[row.id] = lease
        await self.enrolment.load()
        await self.uploads.load()
        following = [asyncio.create_task(work) for work in (self.enrolment.follow(), self.uploads.follow())]
        await asyncio.sleep(0)  # they have begun to listen
        try:
            yield self
        finally:
            for task in following:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await self.answers.close()
            await self.database.close()
            self.workers.close()

    # -- clients ----------------------------------------------------------------------------------------------

    async def enrol(self, name: str, **wanted: Any) -> Client:
        """A client of this name, with an invite of its own."""
        invite = await self.enrolment.invite(InviteRequest(**wanted))
        enrolled = await self.enrolment.enrol(EnrolmentMessage(invite=invite.invite, name=name))
        found = self.enrolment.find(hash_of(enrolled.token))
        assert found is not None
        return found

    async def register(
        self, client: Client, wait_s: float = PATIENCE_S, *, inline: bool = True, **said: Any
    ) -> TaskMessage | None:
        """What the client gets."""
        wanted = Registration(**said)
        return await self.registrations.next_task(client, wanted, wait_s, inline=inline, hung_up=never)

    # -- what the leader does ---------------------------------------------------------------------------------

    async def run(self, run: str = "run001", *, spec: bytes | None = None, **settings: Any) -> str:
        """A run that goes on, with its id as its name."""
        wanted = RunSettings(name=run, **settings)
        self.now += 1
        await self.runs.create(run, wanted, spec=spec, parameters=20, round=1, step=0, max_runs=100, now=self.now)
        lease = await self._leases.acquire(run, "by hand", None)
        assert lease is not None
        self.leases[run] = lease
        await self.runs.set_state(lease, "running", None, self.now)
        self.signals.publish(f"group:{wanted.group}")
        return run

    async def exchange(
        self,
        run: str = "run001",
        index: int = 0,
        *,
        content: bytes | None = None,
        delta: bytes | None = None,
        plan: bytes = b"the plan",
        kind: str = "train",
    ) -> ExchangeRow:
        """An exchange that broadcasts one part, open."""
        full = f"{run}/{index}".encode() if content is None else content
        row = ExchangeRow(
            run=run, exchange=index, round=index + 1, step=0, kind=kind, plan=self.put(run, plan),
            parts=[["model", {"w": ["float32", [5]]}, self._form(run, full), delta and self._form(run, delta)]],
            options={"epochs": 2}, max_payload_bytes=MAX_PAYLOAD_BYTES, cohort="new", size=2, offers=1, seconds=0.0,
            left_s=30.0, clock_at=self.now, closed=False, answers=0, metrics={}, opened_at=self.now, closed_at=None,
        )  # fmt: skip
        digests = [bytes.fromhex(form[0]) for form in row.parts[0][2:] if form]
        await self.exchanges.open(self.leases[run], row, digests, self.now)
        return row

    def put(self, run: str, data: bytes) -> bytes:
        """The digest of a payload that the run has now."""
        digest = hashlib.sha256(data).digest()
        self.objects.put(payload(run, digest), data, durable=False)
        return digest

    def _form(self, run: str, data: bytes) -> list[Any]:
        return [self.put(run, data).hex(), len(data)]

    async def ask(self, client: Client, run: str = "run001", index: int = 0, private: bytes | None = None) -> str:
        """The task that the client has from now on."""
        task = f"{run}{index}{client.name}"[:12]
        alone = None if private is None else [*self._form(run, private), {"p": ["float32", [1]]}]
        slot = self._counts[run] = self._counts.get(run, -1) + 1
        await self.tasks.offer(self.leases[run], index, [NewTask(task, slot, 1, client.name, alone)])
        self.signals.publish(f"client:{client.name}")
        return task

    async def decide(self, task: str, state: SlotState, run: str = "run001", why: str | None = None) -> None:
        """The verdict on a task."""
        await self.tasks.verdict(self.leases[run], task, state, why, why and f"it is {why}", 1, self.now)
        self.signals.publish(f"task:{task}")
        self.signals.publish(f"events:{run}")

    async def close(self, run: str = "run001", index: int = 0) -> None:
        """The exchange is over."""
        closing = Figures(index, seconds=5.0, answers=1, offers=1, metrics={"loss": 0.5})
        await self.exchanges.close(self.leases[run], closing, index + 2, 0, self.now)
        self.signals.publish(f"closed:{run}", str(index))
        self.signals.publish(f"events:{run}")

    async def finish(self, run: str = "run001", model: bytes | None = None) -> None:
        """The run is over."""
        self.now += 1
        await self.runs.finish(self.leases[run], "completed", None, model, self.now)
        self.signals.publish(f"group:{(await self.runs.get(run)).group}")
        self.signals.publish(f"events:{run}")

    @contextlib.asynccontextmanager
    async def deciding(self, run: str = "run001", state: SlotState = "accepted") -> AsyncIterator[list[str]]:
        """Whatever arrives gets this verdict, once; the tasks so far."""
        decided: list[str] = []

        async def decide() -> None:
            with self.signals.subscribe(f"run:{run}") as heard:
                while True:
                    for _, item in await heard.wait():
                        kind, _, task = item.partition(":")
                        if kind == "answer" and task not in decided:
                            decided.append(task)
                            why = "payload-invalid" if state == "refused" else None
                            await self.decide(task, state, run, why)

        deciding = asyncio.create_task(decide())
        await asyncio.sleep(0)
        try:
            yield decided
        finally:
            deciding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await deciding

    async def until_parked(self, count: int) -> None:
        """Returns when so many polls wait, and the rows know."""
        waiting = select(func.count()).select_from(tables.presence).where(tables.presence.c.parked)
        async with asyncio.timeout(PATIENCE_S):
            while await self.database.read(lambda connection: connection.execute(waiting).scalar_one()) < count:
                pass


def reason_of(error: BaseException | object) -> str:
    """The reason, where it is a problem."""
    assert isinstance(error, ProblemError), error
    return error.reason
