"""What is measured: a coordinator over SQLite, or one or two replicas over PostgreSQL, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from benchmarks.growth import OPTIONS
from benchmarks.growth_clients import Client, at_most
from benchmarks.intake.load import Connection, Payload
from benchmarks.postgres_server import PostgresServer
from benchmarks.process_watch import anonymous_bytes, cpu_seconds
from thinwire.operator.lab import Lab
from thinwire.protocol.messages import RunView
from thinwire.protocol.settings import RunSettings

AT_ONCE: Final = 64
LOOK_S: Final = 0.05
FLUSH_S: Final = 12.0
"""PostgreSQL tells what a connection has written at most a second after it has, and ten where it is idle since."""
_ROWS: Final = (
    "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = current_database()"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """`database`: sqlite or postgresql; replicas share a store beside the database."""

    database: str
    replicas: int

    def __str__(self) -> str:
        named = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[self.database]
        return f"{named}, {self.replicas} replica{'s' if self.replicas > 1 else ''}"


KINDS: Final = (Kind("sqlite", 1), Kind("postgresql", 1), Kind("postgresql", 2))


@dataclass(frozen=True, slots=True)
class Crossed:
    """Requests of clients, and the bytes that they took on the wire, headers included."""

    requests: int = 0
    uplink: int = 0
    downlink: int = 0

    def __add__(self, other: Crossed) -> Crossed:
        return Crossed(self.requests + other.requests, self.uplink + other.uplink, self.downlink + other.downlink)

    def __sub__(self, other: Crossed) -> Crossed:
        return Crossed(self.requests - other.requests, self.uplink - other.uplink, self.downlink - other.downlink)


class Deployment:
    """The processes of one kind, which listen. Runs are the operator's at the first; clients take turns among all.
    `alone_bytes`: what they held before all clients but the first of each enrolled.
    """

    def __init__(self, kind: Kind, labs: Sequence[Lab], database: str) -> None:
        self.kind = kind
        self.lab = labs[0]
        self._ports = [lab.port for lab in labs]
        self._pids = [lab.coordinator.process.pid for lab in labs]
        self._database = database
        self._asking: list[Connection] = []
        self._connections: list[Connection] = []
        self.alone_bytes = 0

    def memory(self) -> int:
        """Anonymous bytes of all coordinators."""
        return sum(anonymous_bytes(pid) for pid in self._pids)

    def used(self) -> float:
        """Processor seconds of all coordinators."""
        return sum(cpu_seconds(pid) for pid in self._pids)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Connections for `parked` and `crossed`; at the end these and the fleet's are closed."""
        self._asking = [self._connection(number) for number in range(len(self._ports))]
        try:
            for one in self._asking:
                await one.open()
            yield
        finally:
            for one in self._connections:
                one.raw.close()

    def _connection(self, number: int) -> Connection:
        made = Connection("127.0.0.1", self._ports[number % len(self._ports)])
        self._connections.append(made)
        return made

    async def _figures(self) -> list[str]:
        return [(await one.ask("GET", "/metrics")).decode() for one in self._asking]

    async def parked(self) -> int:
        """Clients whose poll waits, at whichever replica."""
        return sum(
            int(float(text.partition("\nthinwire_parked_clients ")[2].split()[0])) for text in await self._figures()
        )

    async def crossed(self, kinds: Sequence[str]) -> Crossed:
        """Of requests that have ended, of these kinds, as the ledger names them."""
        found = Crossed()
        for text in await self._figures():
            values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("thinwire_"))
            for kind in kinds:
                up, down = (
                    values[f'thinwire_wire_bytes_total{{direction="{way}",kind="{kind}"}}']
                    for way in ("uplink", "downlink")
                )
                requests = values[f'thinwire_requests_total{{kind="{kind}"}}']
                found += Crossed(int(float(requests)), int(float(up)), int(float(down)))
        return found

    async def rows(self) -> int | None:
        """Rows that were inserted, changed or deleted until now, as PostgreSQL counts; None of another database."""
        if self.kind.database != "postgresql":
            return None
        return await asyncio.to_thread(_rows_of, self._database)

    async def fleet(self, clients: int) -> list[Client]:
        """While it is watched: so many clients that have enrolled. The first of each replica has asked for a task too,
        so that what is loaded and opened with the first request of all is no memory of the others.
        """
        invite = await asyncio.to_thread(self.lab.invite, clients)
        plans: dict[bytes, asyncio.Task[Payload]] = {}
        made = [Client(index, self._connection(index), plans) for index in range(clients)]
        first = made[: len(self._ports)]
        for one in first:
            await one.enrol(invite)
            await one.register(0)
        self.alone_bytes = self.memory()
        await at_most(AT_ONCE, [partial(one.enrol, invite) for one in made[len(first) :]])
        return made

    async def park(self, name: str, size: int, settings: RunSettings) -> RunView:
        """A run that waits to be resumed, of a model of so many bytes."""
        model = self.lab.folder / f"{name}.safetensors"
        save_file({"weights": np.zeros(max(1, size // 4), np.float32)}, model)
        digest = await asyncio.to_thread(self.lab.store, model)
        named = settings.model_copy(update={"name": name})
        return await asyncio.to_thread(self.lab.park_run, digest, named)


def _rows_of(database: str) -> int:
    import psycopg

    with psycopg.connect(database, autocommit=True) as connection:

        def told() -> int:
            found = connection.execute(_ROWS).fetchone()
            assert found is not None
            return int(found[0])

        before, until = told(), time.monotonic() + FLUSH_S
        # Each connection tells of all that it has written at once, so the next figure holds everything until now.
        while (now := told()) == before and time.monotonic() < until:
            time.sleep(LOOK_S)
        return now


@contextlib.contextmanager
def deployed(kind: Kind, folder: Path, postgres: PostgresServer | None) -> Iterator[Deployment]:
    """In a folder of their own. They are killed at the end, so that nobody is told of it.

    Raises: `ChildFailedError`.
    """
    database, options = "", list(OPTIONS)
    if kind.database == "postgresql":
        assert postgres is not None
        database = postgres.create()
        options += ["--database", database, "--objects", f"file://{folder / 'store'}"]
    with contextlib.ExitStack() as stack:
        labs = []
        for number in range(kind.replicas):
            lab = stack.enter_context(Lab(folder / f"replica-{number}", options, environment={}))
            lab.serve()
            labs.append(lab)
        yield Deployment(kind, labs, database)
        for lab in labs:
            lab.kill()
