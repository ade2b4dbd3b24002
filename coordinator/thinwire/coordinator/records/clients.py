"""Clients: enrolled with an invite, known by the hash of a token, revoked for good, deleted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, func, or_, select, update

from thinwire.protocol.fields import Role
from thinwire.protocol.reasons import ProblemError

from .database import Database, upsert
from .invites import delete_invite, find_invite, spend_invite
from .tables import client_logs, clients, links, presence, tasks

_ALL: Final[Select[Any]] = select(
    clients.c.name, clients.c.group, clients.c.role, clients.c.token_hash, clients.c.invite_hash, clients.c.seen,
    clients.c.replaced_hash, clients.c.revoked_at, clients.c.label, clients.c.deleted_at,
)  # fmt: skip
_ONE: Final = _ALL.where(clients.c.name == bindparam("client"))
_COUNT: Final = select(func.count()).select_from(clients).where(clients.c.deleted_at.is_(None))
_NEXT_VERSION: Final = select(func.coalesce(func.max(clients.c.version), 0) + 1).scalar_subquery()
_SEEN: Final = (
    update(clients)
    .where(clients.c.name == bindparam("client"), clients.c.token_hash == bindparam("token"))
    .values(seen=True)
)


@dataclass(frozen=True, slots=True)
class Client:
    """An enrolled client; secrets by their SHA-256. `seen`: whether it has ever used its token; until then it may ask
    for another one with what it got this one for: the invite, or the token that was replaced (`replaced_hash`).
    `label`: what people call it, where that is not its name. `deleted`: revoked, and in no list any more.
    """

    name: str
    group: str
    role: Role
    token_hash: bytes
    invite_hash: bytes
    seen: bool
    replaced_hash: bytes | None = None
    revoked: bool = False
    label: str | None = None
    deleted: bool = False

    def asks_again(self, secret_hash: bytes | None) -> bool:
        """Whether this is the secret of an answer that may have been lost."""
        asked_with = self.replaced_hash or self.invite_hash
        return not self.seen and not self.revoked and secret_hash == asked_with


class Clients:
    """Every change survives the death of the machine before it is told. Every verb raises `storage-failed`, and those
    that write `storage-full`; then nothing has changed, and the same can be asked again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Client]:
        """By name, revoked ones included, deleted ones not."""
        query = _ALL.where(clients.c.deleted_at.is_(None)).order_by(clients.c.name)
        return await self._database.read(lambda connection: [_client(*row) for row in connection.execute(query)])

    async def get(self, name: str) -> Client | None:
        """The client of this name, if there ever was one."""
        return await self._database.read(lambda connection: _find(connection, name))

    async def named_by(self, token_hash: bytes) -> str | None:
        """The client whose token has this hash."""
        query = select(clients.c.name).where(clients.c.token_hash == token_hash, clients.c.revoked_at.is_(None))
        return await self._database.read(lambda connection: connection.scalar(query))

    async def changed(self, since: int) -> tuple[int, list[str]]:
        """The newest version there is, and who has changed above this one."""
        query = select(clients.c.version, clients.c.name).where(clients.c.version > since).order_by(clients.c.version)
        found = await self._database.look(lambda connection: connection.execute(query).all())
        return (found[-1].version if found else since), [row.name for row in found]

    async def enrol(self, name: str, code_hash: bytes, token_hash: bytes, now: float, max_clients: int) -> Client:
        """The client, new under this name, and the invite used once more. `now`: Unix seconds.

        Asked again for a client that never saw the answer (same invite, same name, token unused), it gives the new
        token and leaves the invite's uses as they are. Raises: `invite-invalid`, `name-taken`, `too-many-requests`.
        """

        def work(connection: Connection) -> Client:
            invite = find_invite(connection, code_hash, now)
            before = _find(connection, name)
            again = before is not None and before.asks_again(code_hash)
            if before is not None and not again:
                if not before.revoked:
                    raise ProblemError("name-taken")
                if before.invite_hash == code_hash:
                    raise ProblemError("invite-invalid", "the client that came with this invite was revoked")
            if (before is None or before.deleted) and connection.execute(_COUNT).scalar_one() >= max_clients:
                raise ProblemError("too-many-requests", "this coordinator takes no further clients")
            if not again:
                spend_invite(connection, code_hash)
                # What another of this name has said, what it holds and has counted, is not this one's.
                _forget(connection, name)
                connection.execute(delete(links).where(links.c.client == name))
            client = Client(name, invite.group, invite.role, token_hash, code_hash, seen=False)
            _put(connection, before, client, enrolled_at=now, starts=0, process=None)
            return client

        return await self._database.transaction(work, durable=True)

    async def rotate(self, name: str, presented_hash: bytes, token_hash: bytes) -> Client:
        """The client with another token in the place of the one presented, which is worth nothing from now on, but to
        ask for this again until the new one has been used. Raises: `token-invalid`.
        """

        def work(connection: Connection) -> Client:
            before = _find(connection, name)
            if before is None or before.revoked:
                raise ProblemError("token-invalid")
            if presented_hash != before.token_hash and not before.asks_again(presented_hash):
                raise ProblemError("token-invalid")
            client = replace(before, token_hash=token_hash, replaced_hash=presented_hash, seen=False)
            _put(connection, before, client)
            return client

        return await self._database.transaction(work, durable=True)

    async def revoke(self, name: str, now: float, *, invite: bool) -> list[str]:
        """The client's token is worth nothing from now on; `invite`: nor is the invite it came with. Its open tasks are
        late; the runs they are of. `now`: Unix seconds. Of one that is revoked already: the same again. Raises:
        `not-found`.
        """

        def work(connection: Connection) -> list[str]:
            client = _known(connection, name)
            if invite:
                delete_invite(connection, client.invite_hash)
            return _shut_out(connection, name, now)

        return await self._database.transaction(work, durable=True)

    async def delete(self, name: str, now: float) -> list[str]:
        """The client is revoked, and in no list any more; what its log said goes, its bytes and its name in histories
        stay. The runs whose open tasks it had. `now`: Unix seconds. Raises: `not-found`.
        """

        def work(connection: Connection) -> list[str]:
            _known(connection, name)
            runs = _shut_out(connection, name, now)
            connection.execute(delete(client_logs).where(client_logs.c.client == name))
            gone = update(clients).where(clients.c.name == name)
            connection.execute(gone.values(deleted_at=now, label=None, version=_NEXT_VERSION))
            return runs

        return await self._database.transaction(work, durable=True)

    async def rename(self, name: str, label: str | None) -> Client:
        """The client with what people call it, None for its name. Raises: `not-found`, `name-taken`: another client
        that is not revoked has this name or label.
        """

        def work(connection: Connection) -> Client:
            client = _known(connection, name)
            same = or_(clients.c.name == label, clients.c.label == label)
            others = select(clients.c.name).where(same, clients.c.name != name, clients.c.revoked_at.is_(None))
            if label is not None and (other := connection.scalar(others.limit(1))) is not None:
                raise ProblemError("name-taken", f"the client {other} is called {label} already")
            wanted = None if label == name else label
            renamed = update(clients).where(clients.c.name == name)
            connection.execute(renamed.values(label=wanted, version=_NEXT_VERSION))
            return replace(client, label=wanted)

        return await self._database.transaction(work, durable=True)

    async def mark_seen(self, used: Collection[Client]) -> None:
        """The tokens of these have been used; of a client that has another one by now: nothing."""
        rows = [{"client": client.name, "token": client.token_hash} for client in used]
        if rows:
            await self._database.transaction(lambda connection: connection.execute(_SEEN, rows) and None)


def _find(connection: Connection, name: str) -> Client | None:
    row = connection.execute(_ONE, {"client": name}).one_or_none()
    return None if row is None else _client(*row)


def _client(
    name: str, group: str, role: Role, token_hash: bytes, invite_hash: bytes, seen: bool, replaced_hash: bytes | None,
    revoked_at: float | None, label: str | None, deleted_at: float | None,
) -> Client:  # fmt: skip
    known = Client(name, group, role, token_hash, invite_hash, seen, replaced_hash, revoked_at is not None, label)
    return known if deleted_at is None else replace(known, deleted=True)


def _known(connection: Connection, name: str) -> Client:
    """The client of this name that has not been deleted. Raises: `not-found`."""
    client = _find(connection, name)
    if client is None or client.deleted:
        raise ProblemError("not-found", f"no client is named {name[:64]!r}")
    return client


def _shut_out(connection: Connection, name: str, now: float) -> list[str]:
    """Its token is worth nothing, its open tasks are late; the runs they are of."""
    revoked = update(clients).where(clients.c.name == name, clients.c.revoked_at.is_(None))
    connection.execute(revoked.values(revoked_at=now, version=_NEXT_VERSION))
    _forget(connection, name)
    late = update(tasks).where(tasks.c.client == name, tasks.c.state == "open").values(state="late")
    return sorted(set(connection.scalars(late.returning(tasks.c.run))))


def _put(connection: Connection, before: Client | None, client: Client, **also: float | None) -> None:
    """One client's row in the place of the one there was before. Raises: `name-taken`: another came in between."""
    values = {
        "group": client.group, "role": client.role, "token_hash": client.token_hash, "seen": client.seen,
        "invite_hash": client.invite_hash, "replaced_hash": client.replaced_hash, "revoked_at": None,
        "deleted_at": None, "label": client.label, "version": _NEXT_VERSION, **also,
    }  # fmt: skip
    if before is None:
        new = upsert(connection, clients).values(name=client.name, **values)
        new = new.on_conflict_do_nothing(index_elements=["name"])
        written = connection.scalar(new.returning(clients.c.name))
    else:
        mine = clients.c.name == client.name, clients.c.token_hash == before.token_hash
        written = connection.scalar(update(clients).where(*mine).values(values).returning(clients.c.name))
    if written is None:
        raise ProblemError("name-taken")


def _forget(connection: Connection, name: str) -> None:
    connection.execute(delete(presence).where(presence.c.client == name))
