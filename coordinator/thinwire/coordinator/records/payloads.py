"""Which exchange names which payload: who may fetch it, whom its bytes belong to, and when it may go."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, insert, or_, select

from .database import Database, upsert
from .leases import Lease, fence
from .prepared import Prepared
from .tables import exchanges, payloads, runs

PayloadKind = Literal["plan", "part", "private", "model"]
NO_EXCHANGE: Final = -1
"""What the table has for final models: NULL would not be unique."""
_UNNAME = Prepared(
    delete(payloads).where(
        payloads.c.run == bindparam("of_run"), payloads.c.exchange == bindparam("of_exchange"),
        or_(payloads.c.kind == "plan", payloads.c.kind == "part"),
    )
)  # fmt: skip
_NAME = Prepared(insert(payloads))
_FEW, _ALL = 100, 1 << 31
_DIGESTS = Prepared(
    select(payloads.c.digest).where(payloads.c.run == bindparam("of_run")).distinct().limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Named:
    """A payload under one of its names. `exchange`: None for a final model, and `exchange_kind` too. `client`: whom a
    private part is for, empty for the others. `group`: of the run's clients; `public`: the run's payloads are for all.
    """

    run: str
    group: str
    exchange: int | None
    digest: bytes
    kind: PayloadKind
    client: str
    public: bool
    exchange_kind: str | None


class Payloads:
    """The names of payloads. Every verb raises `storage-failed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def named(self, digest: bytes) -> list[Named]:
        """All that name this payload, the newest run and exchange first."""
        return await self._select(payloads.c.digest == digest)

    async def of(self, run: str, exchange: int) -> list[Named]:
        """What an exchange names."""
        return await self._select(and_(payloads.c.run == run, payloads.c.exchange == exchange))

    async def _select(self, which: ColumnElement[bool]) -> list[Named]:
        public = runs.c.settings["payloads"].as_string() == "public"
        opened = and_(exchanges.c.run == payloads.c.run, exchanges.c.exchange == payloads.c.exchange)
        query = (
            select(
                payloads.c.run, runs.c.group, payloads.c.exchange, payloads.c.digest, payloads.c.kind,
                payloads.c.client, public, exchanges.c.kind,
            )
            .join(runs, runs.c.id == payloads.c.run)
            .outerjoin(exchanges, opened)
            .where(which)
            .order_by(runs.c.created_at.desc(), payloads.c.exchange.desc(), payloads.c.digest, payloads.c.client)
        )  # fmt: skip
        return await self._database.read(lambda connection: [_named(*row) for row in connection.execute(query)])

    async def needed(self, lease: Lease) -> set[bytes]:
        """The payloads of the run that must stay, for its leader. Raises: `LeaseLostError`."""

        def work(connection: Connection) -> set[bytes]:
            if lease.ends:
                fence(connection, lease)
            return {row[0] for row in _DIGESTS.all(connection, {"of_run": lease.run, "most": _ALL})}

        if lease.ends:
            return await self._database.transaction(work)
        few = {"of_run": lease.run, "most": _FEW}
        found = await self._database.look(lambda connection: _DIGESTS.all(connection, few))
        return {row[0] for row in found} if len(found) < _FEW else await self._database.read(work)

    async def all_needed(self) -> list[tuple[str, bytes]]:
        """Run and digest of every payload that must stay."""
        query = select(payloads.c.run, payloads.c.digest).distinct()
        return await self._database.read(lambda connection: [(row[0], row[1]) for row in connection.execute(query)])


def _named(
    run: str, group: str, exchange: int, digest: bytes, kind: PayloadKind, client: str, public: bool, of: str | None
) -> Named:
    return Named(run, group, None if exchange == NO_EXCHANGE else exchange, digest, kind, client, bool(public), of)


def name_broadcast(connection: Connection, run: str, exchange: int, plan: bytes, digests: Collection[bytes]) -> None:
    """The exchange names its plan and the parts of its broadcast, and no others any more."""
    _UNNAME.change(connection, {"of_run": run, "of_exchange": exchange})
    kinds: dict[bytes, PayloadKind] = {**dict.fromkeys(digests, "part"), plan: "plan"}
    _NAME.each(connection, [_values(run, exchange, digest, kind) for digest, kind in kinds.items()])


def name_private(connection: Connection, run: str, exchange: int, made: Mapping[str, bytes]) -> None:
    """The exchange names these parts too, by the client that each is for."""
    if made:
        new = upsert(connection, payloads).on_conflict_do_nothing()
        connection.execute(new, [_values(run, exchange, part, "private", name) for name, part in made.items()])


def _values(run: str, exchange: int, digest: bytes, kind: PayloadKind, client: str = "") -> dict[str, Any]:
    return {"run": run, "exchange": exchange, "digest": digest, "client": client, "kind": kind}
