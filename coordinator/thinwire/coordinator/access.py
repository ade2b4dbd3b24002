"""Who may do what: the operator's token, clients' tokens, invites. Secrets are held and stored only as SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path

from fastapi import Request
from sqlalchemy import delete, insert, select, update

from thinwire.protocol.fields import Role
from thinwire.protocol.messages import Enrolled, Enrolment, Invite, InviteRequest
from thinwire.protocol.reasons import ProblemError

from . import tables
from .store import Store

TOKEN_BYTES = 16
OPERATOR_TOKEN = "operator.token"  # noqa: S105 (a file's name)


@dataclass(frozen=True, slots=True)
class Client:
    """An enrolled client. `seen`: whether it has ever used its token."""

    name: str
    group: str
    role: Role
    token_hash: bytes
    invite_hash: bytes
    seen: bool
    revoked: bool = False


def hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def operator_token(data_dir: Path) -> str:
    """The operator's token, made at the first start in a file only its owner can read."""
    path = data_dir / OPERATOR_TOKEN
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        file.write(f"{token}\n")
    return token


class Access:
    """Tokens in memory, so that checking one waits for nothing."""

    def __init__(self, store: Store, operator: str, *, open_reads: bool, max_clients: int) -> None:
        self._store = store
        self._operator = hash_of(operator)
        self._open_reads = open_reads
        self._max_clients = max_clients
        self.clients: dict[str, Client] = {}
        self._by_token: dict[bytes, str] = {}

    async def load(self) -> None:
        for row in await self._store.read(select(tables.clients)):
            client = Client(
                row.name, row.group, row.role, row.token_hash, row.invite_hash, row.seen, row.revoked_at is not None
            )
            self._remember(client)

    def _remember(self, client: Client) -> None:
        before = self.clients.get(client.name)
        if before is not None:
            self._by_token.pop(before.token_hash, None)
        self.clients[client.name] = client
        if not client.revoked:
            self._by_token[client.token_hash] = client.name

    # -- who asks ---------------------------------------------------------------------------------------------

    def client(self, request: Request) -> Client:
        """The client whose token came with the request. Raises: `token-missing`, `token-invalid`."""
        name = self._by_token.get(_presented(request))
        if name is None:
            raise ProblemError("token-invalid")
        return self.clients[name]

    def is_operator(self, request: Request) -> bool:
        try:
            presented = _presented(request)
        except ProblemError:
            return False
        if hmac.compare_digest(presented, self._operator):
            return True
        name = self._by_token.get(presented)
        return name is not None and self.clients[name].role == "operator"

    def operator(self, request: Request) -> None:
        """Raises: `token-missing`, `token-invalid`, `not-allowed` unless an operator asks."""
        if not self.is_operator(request):
            self.client(request)
            raise ProblemError("not-allowed", "only an operator may do this")

    def reader(self, request: Request) -> None:
        """Raises as `operator`, unless reading is open."""
        if not self._open_reads:
            self.operator(request)

    # -- enrolment --------------------------------------------------------------------------------------------

    async def invite(self, wanted: InviteRequest) -> Invite:
        code = secrets.token_urlsafe(TOKEN_BYTES)
        expires_at = None if wanted.expires_in_s is None else time.time() + wanted.expires_in_s
        row = {"code_hash": hash_of(code), "group": wanted.group, "role": wanted.role, "uses_left": wanted.uses}
        await self._store.write(insert(tables.invites).values(**row, expires_at=expires_at))
        return Invite(invite=code, group=wanted.group, role=wanted.role, uses=wanted.uses)

    async def enrol(self, wanted: Enrolment) -> Enrolled:
        """Raises: `invite-invalid`, `name-taken`, `too-many-requests`.

        Asked again by a client that never saw the answer (same invite, same name, token unused), it gives a new token
        and uses the invite up once.
        """
        code_hash = hash_of(wanted.invite)
        table = tables.invites
        rows = await self._store.read(select(table).where(table.c.code_hash == code_hash))
        if not rows or (rows[0].expires_at is not None and rows[0].expires_at < time.time()):
            raise ProblemError("invite-invalid")
        invite = rows[0]
        name = wanted.name or self._free_name()
        before = self.clients.get(name)
        again = before is not None and not before.seen and not before.revoked and before.invite_hash == code_hash
        if before is not None and not again and not before.revoked:
            raise ProblemError("name-taken")
        if before is None and len(self.clients) >= self._max_clients:
            raise ProblemError("too-many-requests", "this coordinator takes no further clients")
        if not again and invite.uses_left < 1:
            raise ProblemError("invite-invalid", "the invite is used up")
        token = secrets.token_urlsafe(TOKEN_BYTES)
        client = Client(name, invite.group, invite.role, hash_of(token), code_hash, seen=False)
        self._remember(client)  # before anything is awaited: two enrolments of one name cannot both pass
        values = {
            "group": client.group, "role": client.role, "token_hash": client.token_hash, "invite_hash": code_hash,
            "seen": False, "enrolled_at": time.time(), "revoked_at": None,
        }  # fmt: skip
        spend = update(table).where(table.c.code_hash == code_hash)
        statements = [] if again else [spend.values(uses_left=table.c.uses_left - 1)]
        await self._store.write(
            delete(tables.clients).where(tables.clients.c.name == name),
            insert(tables.clients).values(name=name, **values),
            *statements,
        )
        return Enrolled(client=name, token=token, group=client.group, role=client.role)

    def _free_name(self) -> str:
        while (name := f"client-{secrets.token_hex(4)}") in self.clients:
            pass
        return name

    async def mark_seen(self, client: Client) -> None:
        """Notes that the token is in use, so that its enrolment cannot be repeated."""
        if not client.seen:
            self._remember(replace(client, seen=True))
            table = tables.clients
            await self._store.write(update(table).where(table.c.name == client.name).values(seen=True))

    async def revoke(self, name: str) -> None:
        """The client's token is worth nothing from now on. Raises: `not-found`."""
        client = self.clients.get(name)
        if client is None or client.revoked:
            raise ProblemError("not-found", f"no client is named {name[:64]!r}")
        self._by_token.pop(client.token_hash, None)
        self.clients[name] = replace(client, revoked=True)
        table = tables.clients
        await self._store.write(update(table).where(table.c.name == name).values(revoked_at=time.time()))


def _presented(request: Request) -> bytes:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ProblemError("token-missing")
    return hash_of(token.strip())
