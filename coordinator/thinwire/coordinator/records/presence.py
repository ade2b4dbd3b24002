"""Who is there: what each client's last registration said, and when it was last heard."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Executable,
    LargeBinary,
    String,
    and_,
    bindparam,
    case,
    cast,
    func,
    or_,
    select,
    tuple_,
    update,
)

from thinwire.protocol.fields import Role
from thinwire.protocol.reasons import REASONS, ProblemError

from .carried import oldest_open
from .database import Database, upsert_in
from .prepared import Prepared
from .tables import clients, presence, runs, tasks

_MAX_NAMES: Final = 500
"""A query for more names than this asks for all and picks."""
_FIELDS: Final = (
    presence.c.client, presence.c.spec, presence.c.holds, presence.c.seen_at, presence.c.parked, presence.c.gone,
)  # fmt: skip
_ONE: Final = Prepared(select(*_FIELDS).where(presence.c.client == bindparam("of")))


def _later(seen_at: ColumnElement[float]) -> ColumnElement[float]:
    """Never an earlier time than the row has."""
    return case((seen_at > presence.c.seen_at, seen_at), else_=presence.c.seen_at)


_BEGUN: Final = select(clients.c.starts, clients.c.process).where(clients.c.name == bindparam("of"))
_BEGIN: Final = (
    update(clients).where(clients.c.name == bindparam("of")).values(starts=bindparam("start"), process=bindparam("by"))
)
_HERE: Final = or_(presence.c.holder.is_(None), presence.c.holder == bindparam("here", type_=String))
"""A poll that waits elsewhere by now is not the one that was left."""
_LEFT: Final = (
    update(presence)
    .where(presence.c.client == bindparam("of"), _HERE)
    .values(parked=False, gone=False, seen_at=_later(bindparam("now")))
)
_LOST: Final = {"gone": True, "breaks": presence.c.breaks + 1}
_GONE: Final = update(presence).where(presence.c.client == bindparam("of"), _HERE).values(parked=False, **_LOST)
_CLOSED: Final = update(presence).where(presence.c.client == bindparam("of"), ~presence.c.parked).values(_LOST)
_HOLDS: Final = Prepared(select(presence.c.holds).where(presence.c.client == bindparam("of")).with_for_update())
_HELD: Final = Prepared(
    update(presence)
    .where(presence.c.client == bindparam("of"))
    .values(holds=bindparam("said"), seen_at=_later(bindparam("now")), gone=False)
)


_SPEC: Final = bindparam("of_spec", type_=LargeBinary)
_ROLES: Final[BindParameter[Any]] = bindparam("roles", expanding=True)
_FITTING: Final = select(clients.c.name).where(
    clients.c.group == bindparam("of_group"),
    clients.c.revoked_at.is_(None),
    or_(cast(_SPEC, LargeBinary).is_(None), presence.c.spec.is_(None), presence.c.spec == _SPEC),
)
_THERE: Final = _FITTING.join(presence, presence.c.client == clients.c.name).where(
    ~presence.c.gone, or_(presence.c.parked, presence.c.seen_at >= bindparam("since"))
)
_PRESENT_OF: Final = _THERE.where(clients.c.role.in_(_ROLES), clients.c.name.in_(bindparam("names", expanding=True)))
_OTHERS: Final = Prepared(select(runs.c.id).where(runs.c.state == "running", runs.c.id != bindparam("but")).limit(1))
_BUSY: Final = select(tasks.c.client).where(
    tuple_(tasks.c.run, tasks.c.exchange).in_(
        select(runs.c.id, runs.c.exchange).where(runs.c.state == "running", runs.c.id != bindparam("but"))
    ),
    tasks.c.state == "open",
)
_BUSY_OF: Final = _BUSY.where(tasks.c.client.in_(bindparam("names", expanding=True)))
_MEMBERS: Final = _FITTING.where(clients.c.role.in_(_ROLES)).outerjoin(presence, presence.c.client == clients.c.name)


@dataclass(frozen=True, slots=True)
class Seen:
    """`holds`: run -> the exchange whose parts the client still has. `seen_at`: Unix seconds of its last request.
    `parked`: its poll is waiting. `gone`: the connection of its poll died, and it has not been heard of since.
    """

    client: str
    spec: bytes | None
    holds: Mapping[str, int]
    seen_at: float
    parked: bool
    gone: bool


class Presence:
    """Times in Unix seconds. `holder`: the coordinator at which polls wait, where there are several. Every verb raises
    `storage-failed`, and those that write `storage-full`.
    """

    def __init__(self, database: Database, holder: str | None = None) -> None:
        self._database = database
        self._holder = holder

    async def arrive(
        self, client: str, spec: bytes | None, holds: Mapping[str, int], now: float, software: str | None = None
    ) -> None:
        """The client's poll waits; this is what it said. `software`: None says nothing of its version."""
        seen = Seen(client, spec, holds, now, parked=True, gone=False)
        await self._database.transaction(lambda connection: self._put(connection, seen, software))

    async def begin(self, client: str, process: str, start: int) -> None:
        """A process of the client asks for the first time, which calls itself so, the `start`-th of its folder. They
        begin one after the other, so a number that another has said before is of another folder.

        Raises: `client-doubled`.
        """

        def work(connection: Connection) -> None:
            found = connection.execute(_BEGUN, {"of": client}).one_or_none()
            if found is None or (found.starts, found.process) == (start, process):
                return
            if start <= found.starts:
                seen = f"This folder has begun {start} times, and one of this client {found.starts} times."
                raise ProblemError("client-doubled", f"{seen} {REASONS['client-doubled'].meaning}")
            connection.execute(_BEGIN, {"of": client, "start": start, "by": process})

        await self._database.transaction(work)

    async def leave(self, left: Mapping[str, bool], now: float, closed: Collection[str] = ()) -> None:
        """The polls of these clients wait no more: since their connection died, or else they were heard now. `closed`:
        these have no connection any more to this process: gone, unless a poll of theirs waits at another.
        """
        dead = [{"of": client, "here": self._holder} for client, gone in left.items() if gone]
        heard = [{"of": client, "here": self._holder, "now": now} for client, gone in left.items() if not gone]

        def work(connection: Connection) -> None:
            for statement, some in ((_GONE, dead), (_LEFT, heard), (_CLOSED, [{"of": client} for client in closed])):
                if some:
                    connection.execute(statement, some)

        if left or closed:
            await self._database.transaction(work)

    async def touch(self, names: Collection[str], now: float) -> None:
        """These have made requests other than a registration."""

        def work(connection: Connection) -> None:
            said: dict[str, Any] = {"spec": None, "holds": {}, "seen_at": now, "parked": False, "gone": False}
            connection.execute(_touching(connection.dialect.name), [{"client": name, **said} for name in names])

        if names:
            await self._database.transaction(work)

    def _put(self, connection: Connection, seen: Seen, software: str | None) -> None:
        values = (seen.client, seen.spec, dict(seen.holds), seen.seen_at, seen.parked, seen.gone)
        row = {field.name: value for field, value in zip(_FIELDS, values, strict=True)}
        row |= {"holder": self._holder, "software": software}
        _PUT.change(connection, row)

    async def reset(self) -> None:
        """For a process that begins alone: no poll waits, and everybody is gone until heard of again."""
        statement = update(presence).values(parked=False, gone=True)
        await self._database.transaction(lambda connection: connection.execute(statement) and None)

    # -- questions --------------------------------------------------------------------------------------------

    async def present(
        self,
        group: str,
        spec: bytes | None,
        roles: Collection[Role],
        since: float,
        names: Collection[str] | None = None,
    ) -> set[str]:
        """The clients that are there and may serve: enrolled in the group in one of these roles and not revoked, with a
        model of this spec (None on either side fits), whose poll waits or who were heard at or after `since`, and whose
        connection has not died. `names`: only of these.
        """
        return await self._database.read(lambda connection: _present(connection, group, spec, roles, since, names))

    async def free(
        self,
        group: str,
        spec: bytes | None,
        roles: Collection[Role],
        since: float,
        names: Collection[str] | None,
        run: str,
    ) -> set[str]:
        """The same, but for those that have an open task in another run that goes on."""

        def work(connection: Connection) -> set[str]:
            there = _present(connection, group, spec, roles, since, names)
            return there - _busy(connection, run, there)

        return await self._database.read(work)

    async def members(self, group: str, spec: bytes | None, roles: Collection[Role]) -> set[str]:
        """The clients that may serve, should they come: as `present`, wherever they are. One that was never heard of
        has any spec.
        """
        wanted = {"of_group": group, "of_spec": spec, "roles": sorted(roles)}
        return await self._database.read(lambda connection: set(connection.scalars(_MEMBERS, wanted)))

    async def get(self, client: str) -> Seen | None:
        """What this client last said, if it was ever heard."""
        row = await self._database.look(lambda connection: _ONE.first(connection, {"of": client}))
        return None if row is None else Seen(*row)

    async def asked(self, names: Collection[str]) -> set[str]:
        """Those of these clients that have an open task in a run that goes on."""
        query = (
            select(tasks.c.client)
            .join(runs, and_(runs.c.id == tasks.c.run, tasks.c.exchange.between(oldest_open, runs.c.exchange)))
            .where(tasks.c.state == "open", runs.c.state == "running")
        )
        if len(names) <= _MAX_NAMES:
            query = query.where(tasks.c.client.in_(names))
        return set(names).intersection(await self._database.read(lambda connection: set(connection.scalars(query))))

    async def seen_at(self) -> dict[str, float]:
        """When each client that was ever heard was heard last."""
        query = select(presence.c.client, presence.c.seen_at)
        return await self._database.read(
            lambda connection: {row.client: row.seen_at for row in connection.execute(query)}
        )


def _present(
    connection: Connection,
    group: str,
    spec: bytes | None,
    roles: Collection[Role],
    since: float,
    names: Collection[str] | None,
) -> set[str]:
    wanted: dict[str, Any] = {"of_group": group, "of_spec": spec, "since": since}
    if names is not None and len(names) <= _MAX_NAMES:
        return set(connection.scalars(_PRESENT_OF, {**wanted, "roles": sorted(roles), "names": list(names)}))
    found = {row[0] for row in _present_in(frozenset(roles)).all(connection, wanted)}
    return found if names is None else found.intersection(names)


@cache
def _present_in(roles: frozenset[Role]) -> Prepared:
    """Of all who are there, those in one of these roles."""
    return Prepared(_THERE.where(or_(*(clients.c.role == role for role in sorted(roles)))))


def _busy(connection: Connection, run: str, names: Collection[str]) -> set[str]:
    """Those of these clients that have an open task in another run that goes on."""
    wanted: dict[str, Any] = {"but": run}
    if not _OTHERS.all(connection, wanted):
        return set()
    query = _BUSY
    if len(names) <= _MAX_NAMES:
        query, wanted["names"] = _BUSY_OF, list(names)
    return set(connection.scalars(query, wanted)).intersection(names)


def _putting(dialect: str) -> Executable:
    new = upsert_in(dialect, presence)
    said: dict[str, Any] = {field.name: new.excluded[field.name] for field in _FIELDS if field is not presence.c.client}
    said["holder"] = new.excluded.holder
    said["software"] = func.coalesce(new.excluded.software, presence.c.software)
    return new.on_conflict_do_update(index_elements=["client"], set_=said)


_PUT: Final = Prepared(_putting)


@cache
def _touching(dialect: str) -> Executable:
    new = upsert_in(dialect, presence)
    return new.on_conflict_do_update(
        index_elements=["client"], set_={"seen_at": _later(new.excluded.seen_at), "gone": False}
    )


def note_held(connection: Connection, client: str, run: str, exchange: int, now: float) -> None:
    """The client, which has registered before and is heard now, has the parts of this exchange."""
    holds = _HOLDS.scalar(connection, {"of": client})
    if holds is not None:
        _HELD.change(connection, {"of": client, "said": {**holds, run: exchange}, "now": now})
