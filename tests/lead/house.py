"""A coordinator without a server: rows, objects, signals and the leadership, in one process and under one clock.

What a client and the serving side would do is done by the records' own verbs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tests.coordinator.served  # noqa: F401 (puts the toy method on its path)
from tests.coordinator.numpy_client import examples_of, noise
from thinwire.codecs import Array, Arrays, Spec
from thinwire.coordinator.decoding.coded import decode
from thinwire.coordinator.lead.building import Terms, build_leadership
from thinwire.coordinator.lead.clock import Clock
from thinwire.coordinator.lead.leadership import Leadership
from thinwire.coordinator.objects.broadcasts import read_broadcast
from thinwire.coordinator.objects.local import LocalObjects
from thinwire.coordinator.objects.objects import answer, payload
from thinwire.coordinator.objects.states import put_state, read_state
from thinwire.coordinator.records.answers import Answers
from thinwire.coordinator.records.clients import Clients
from thinwire.coordinator.records.database import Database
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.invites import Invites
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.presence import Presence
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.tasks import OpenTask, Tasks
from thinwire.coordinator.records.troubles import Troubles
from thinwire.coordinator.runs.definitions import Definitions
from thinwire.coordinator.runs.rows import ExchangeRow, RunCommand, RunRow
from thinwire.coordinator.runs.tally import Tally
from thinwire.coordinator.signals.local import LocalSignals
from thinwire.machine.workers import Workers
from thinwire.methods.definition import define
from thinwire.methods.model_file import read_model
from thinwire.methods.payloads import encode_answer
from thinwire.protocol.identity import client_seed
from thinwire.protocol.settings import RunSettings

PATIENCE_S = 200.0


@dataclass
class House:
    """`now`: what both clocks say."""

    folder: Path
    now: float = 1000.0
    signals: LocalSignals = field(default_factory=LocalSignals)
    definitions: Definitions = field(default_factory=Definitions)
    troubles: Troubles = field(default_factory=Troubles)

    def __post_init__(self) -> None:
        self.objects = LocalObjects(self.folder)
        self.objects.open()
        self.workers = Workers(2)
        self.database = Database(self.folder / "thinwire.db")
        self.runs, self.exchanges = Runs(self.database), Exchanges(self.database)
        self.tasks, self.answers = Tasks(self.database), Answers(self.database)
        self.presence, self.clients = Presence(self.database), Clients(self.database)
        self.ledger = Ledger(self.database, lambda: self.now)
        self.leadership: Leadership | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        """Everything is there, and led."""
        await self.database.open()
        await self.presence.reset()
        terms = Terms("house", self.folder / "answers", present_for_s=180.0)
        clock = Clock(lambda: self.now, lambda: self.now)
        self.leadership = build_leadership(
            self.database,
            self.ledger,
            self.objects,
            self.signals,
            self.workers,
            self.definitions,
            self.troubles,
            Tally(),
            clock,
            terms,
            decode,
        )
        await self.leadership.start()
        try:
            yield self
        finally:
            await self.leadership.stop()
            await self.database.close()
            self.workers.close()

    # -- the operator -----------------------------------------------------------------------------------------

    async def run(self, arrays: Arrays, **settings: Any) -> str:
        """A new run, of the toy method unless the settings say otherwise."""
        wanted = RunSettings.model_validate({"method": "toy", "rounds": 1, "cohort": 2, "evaluate": False, **settings})
        run = wanted.name.ljust(6, "0")
        definition = define(run, wanted).for_model(arrays)
        state = put_state(self.objects, run, 0, definition.first_state(arrays))
        await self.runs.create(
            run,
            wanted,
            spec=definition.spec,
            parameters=definition.parameters,
            round=state.round,
            step=state.step,
            max_runs=100,
            now=self.now,
        )
        self.signals.publish("runs", run)
        return run

    async def command(self, run: str, command: RunCommand) -> None:
        """Commands the run, and waits until it has been carried out."""
        await self.runs.command(run, command)
        self.signals.publish(f"run:{run}", "command")
        await self.until(run, lambda row: row.command is None)

    async def command_later(self, run: str, command: RunCommand) -> None:
        """Commands the run; it may have to wait for something."""
        await self.runs.command(run, command)
        self.signals.publish(f"run:{run}", "command")

    async def led_no_more(self, run: str) -> None:
        """Returns when nobody here leads the run."""
        assert self.leadership is not None
        leading = self.leadership._tasks.get(run)
        if leading is not None:
            await asyncio.wait({leading}, timeout=PATIENCE_S)
            assert leading.done()

    async def until(self, run: str, holds: Callable[[RunRow], bool]) -> RunRow:
        """The run once this holds."""
        async with asyncio.timeout(PATIENCE_S):
            with self.signals.subscribe(f"events:{run}") as heard:
                while not holds(row := await self.runs.get(run)):
                    await heard.wait()
        return row

    async def until_said(self, run: str) -> RunRow:
        """The run once it says why it stands; time passes."""
        async with asyncio.timeout(PATIENCE_S):
            while (row := await self.runs.get(run)).reason is None:
                self.pass_time(0.01, run)
                await asyncio.sleep(0)
        return row

    def pass_time(self, seconds: float, run: str) -> None:
        """The clocks go on, and the run's leader looks at them."""
        self.now += seconds
        self.signals.publish(f"run:{run}", "look")

    def model(self, row: RunRow) -> dict[str, Array]:
        """The final model."""
        assert row.model is not None
        return read_model(self.objects.local(payload(row.id, row.model)))

    # -- clients ----------------------------------------------------------------------------------------------

    async def enrol(self, *names: str) -> None:
        """Clients of the default group."""
        invites = Invites(self.database)
        code = hashlib.sha256(repr(names).encode()).digest()
        await invites.issue(code, "default", "client", len(names), None)
        for name in names:
            await self.clients.enrol(name, code, hashlib.sha256(name.encode()).digest(), self.now, 100)

    async def come(self, *names: str) -> None:
        """They wait for a task."""
        for name in names:
            await self.presence.arrive(name, None, {}, self.now)
            self.signals.publish("polls:default", name)

    async def task(self, name: str, but: str = "") -> OpenTask:
        """The client's open task, once it has one that is not this."""
        async with asyncio.timeout(PATIENCE_S):
            with self.signals.subscribe(f"client:{name}") as heard:
                while (task := await self.tasks.open_of(name)) is None or task.id == but:
                    await heard.wait()
        return task

    async def first(self, *names: str) -> str:
        """Whichever of them has a task first."""
        waiting = {asyncio.create_task(self.task(name), name=name) for name in names}
        done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            other.cancel()
        return next(iter(done)).get_name()

    async def arrive(self, name: str, task: OpenTask, **metrics: float) -> None:
        """The client's answer is stored and noted; a loss of 1 where no metrics are given."""
        definition = self.definitions.of(await self.runs.get(task.run))
        row = await self.exchanges.get(task.run, task.exchange)
        assert row is not None
        seed = client_seed(definition.run.seed, task.round, task.step, name)
        reply = self.reply(task, definition, row)
        chain = definition.chains(task.kind, row.lowered_bits).up
        reference = read_broadcast(self.objects, definition, row).reference if chain.needs_reference else {}
        data = encode_answer(noise(seed, reply), reply, chain, reference=reference, seed=seed)
        self.objects.put(answer(task.id), data, durable=False)
        digest = hashlib.sha256(data).digest()
        await self.answers.arrive(
            task.id, name, examples_of(name), metrics or {"loss": 1.0}, digest, len(data), self.now
        )
        self.signals.publish(f"run:{task.run}", f"answer:{task.id}")

    def reply(self, task: OpenTask, definition: Any, row: ExchangeRow) -> Any:
        """The spec of an answer of the toy method: the model's."""
        if definition.run.max_staleness is not None:  # the state before its exchange may be gone
            return Spec.from_plain(row.parts[0][1])
        found = definition.server.task(read_state(self.objects, task.run, task.exchange))
        assert found is not None
        return found.reply

    async def verdict(self, name: str, task: OpenTask) -> str:
        """What became of the client's answer, once it is decided."""
        async with asyncio.timeout(PATIENCE_S):
            with self.signals.subscribe(f"task:{task.id}") as heard:
                while (row := await self.tasks.get(task.id, name)).state == "open":
                    await heard.wait()
        return row.state

    async def answer(self, name: str, task: OpenTask, **metrics: float) -> str:
        """Arrives, and what became of it."""
        await self.arrive(name, task, **metrics)
        return await self.verdict(name, task)
