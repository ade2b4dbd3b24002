"""Who may do what: the operator's token, clients' tokens, invites. Secrets are held and stored only as SHA-256."""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import delete, insert, select, update

from thinwire.protocol.fields import Role
from thinwire.protocol.messages import Enrolled, Enrolment, Invite, InviteRequest, OperatorToken
from thinwire.protocol.places import OPERATOR_TOKEN
from thinwire.protocol.reasons import ProblemError

from . import tables
from .invites import Invites, Issued
from .secret_files import fresh_secret, operator_token, write_secret
from .store import Statement, Store
from .wire.identity import Asker, Caller, hash_of


@dataclass(frozen=True, slots=True)
class Client:
    """An enrolled client. `seen`: whether it has ever used its token; until then it may ask for another one with what
    it got this one for: the invite, or the token that was replaced (`replaced_hash`).
    """

    name: str
    group: str
    role: Role
    token_hash: bytes
    invite_hash: bytes
    seen: bool
    replaced_hash: bytes | None = None
    revoked: bool = False

    def asks_again(self, secret_hash: bytes | None) -> bool:
        """Whether this is the secret of an answer that may have been lost."""
        asked_with = self.replaced_hash or self.invite_hash
        return not self.seen and not self.revoked and secret_hash == asked_with


class Access:
    """Tokens in memory, so that checking one waits for nothing."""

    def __init__(self, store: Store, data_dir: Path, *, max_clients: int) -> None:
        self._store = store
        self._data_dir = data_dir
        self._operator = hash_of(operator_token(data_dir))
        self._max_clients = max_clients
        self.invites = Invites(store)
        self.clients: dict[str, Client] = {}
        self._by_token: dict[bytes, str] = {}
        self._newly_seen: set[str] = set()

    async def load(self) -> None:
        await self.invites.load(time.time())
        for row in await self._store.read(select(tables.clients)):
            revoked = row.revoked_at is not None
            identity = row.name, row.group, row.role
            self._remember(Client(*identity, row.token_hash, row.invite_hash, row.seen, row.replaced_hash, revoked))

    def _remember(self, client: Client) -> None:
        before = self.clients.get(client.name)
        if before is not None:
            self._by_token.pop(before.token_hash, None)
        self.clients[client.name] = client
        if not client.revoked:
            self._by_token[client.token_hash] = client.name

    # -- who asks ---------------------------------------------------------------------------------------------

    def find(self, token_hash: bytes) -> Client | None:
        """The client whose token this is."""
        name = self._by_token.get(token_hash)
        return None if name is None else self.clients[name]

    def is_owner(self, token_hash: bytes) -> bool:
        """Whether it is the token of the data folder."""
        return hmac.compare_digest(token_hash, self._operator)

    def used(self, caller: Caller) -> None:
        """The client has used its token; `save` stores that it has."""
        client = self.clients[caller.name]
        if client.token_hash == caller.token_hash and not client.seen:
            self._remember(replace(client, seen=True))
            self._newly_seen.add(client.name)

    def is_current(self, client: Caller) -> bool:
        """Whether the token that was shown is still in force."""
        now = self.clients[client.name]
        return now.token_hash == client.token_hash and not now.revoked

    async def save(self) -> None:
        """Stores whose tokens have been used for the first time. Raises: `storage-failed`, `storage-full`."""
        names, self._newly_seen = self._newly_seen, set()
        table = tables.clients
        try:
            if names:
                await self._store.write(update(table).where(table.c.name.in_(names)).values(seen=True))
        except ProblemError:
            self._newly_seen |= names
            raise

    # -- getting in -------------------------------------------------------------------------------------------

    async def invite(self, wanted: InviteRequest) -> Invite:
        code = fresh_secret()
        expires_at = None if wanted.expires_in_s is None else time.time() + wanted.expires_in_s
        await self.invites.add(hash_of(code), Issued(wanted.group, wanted.role, wanted.uses, expires_at))
        return Invite(invite=code, group=wanted.group, role=wanted.role, uses=wanted.uses)

    async def enrol(self, wanted: Enrolment) -> Enrolled:
        """Raises: `invite-invalid`, `name-taken`, `too-many-requests`.

        Asked again by a client that never saw the answer (same invite, same name, token unused), it gives a new token
        and uses the invite up once.
        """
        code_hash = hash_of(wanted.invite)
        invite = self.invites.find(code_hash, time.time())
        name = wanted.name or self._free_name()
        before = self.clients.get(name)
        again = before is not None and before.asks_again(code_hash)
        if before is not None and not again:
            if not before.revoked:
                raise ProblemError("name-taken")
            if before.invite_hash == code_hash:
                raise ProblemError("invite-invalid", "the client that came with this invite was revoked")
        if before is None and len(self.clients) >= self._max_clients:
            raise ProblemError("too-many-requests", "this coordinator takes no further clients")
        # In memory before anything is awaited: two enrolments cannot both take one name or the last use of an invite.
        statements = [] if again else [self.invites.spend(code_hash, invite)]
        token = fresh_secret()
        client = Client(name, invite.group, invite.role, hash_of(token), code_hash, seen=False)
        try:
            await self._replace(before, client, *statements)
        except ProblemError:
            if not again:
                invite.uses_left += 1
            raise
        return Enrolled(client=name, token=token, group=client.group, role=client.role)

    async def rotate(self, asker: Asker, name: str) -> Enrolled:
        """Another token for the client that asks; the one it has is worth nothing from now on, but to ask for this
        again until the new one has been used. Raises: `token-missing`, `token-invalid`, `not-allowed`.
        """
        if asker.owner:
            raise ProblemError("not-allowed", "a client asks for its own token")
        before = self.clients.get(name)
        if before is None or not before.asks_again(asker.presented):
            if asker.client().name != name:
                raise ProblemError("not-allowed", "a client asks for its own token")
            before = self.clients[name]
        token = fresh_secret()
        client = replace(before, token_hash=hash_of(token), replaced_hash=asker.presented, seen=False)
        await self._replace(before, client)
        return Enrolled(client=name, token=token, group=client.group, role=client.role)

    async def _replace(self, before: Client | None, client: Client, *statements: Statement) -> None:
        """One client's row and token in the place of another's; where they cannot be stored, everything stays."""
        self._remember(client)
        self._newly_seen.discard(client.name)
        values = {
            "group": client.group, "role": client.role, "token_hash": client.token_hash,
            "invite_hash": client.invite_hash, "replaced_hash": client.replaced_hash, "seen": False,
            "enrolled_at": time.time(), "revoked_at": None,
        }  # fmt: skip
        try:
            await self._store.write(
                delete(tables.clients).where(tables.clients.c.name == client.name),
                insert(tables.clients).values(name=client.name, **values),
                *statements,
            )
        except ProblemError:
            if self.clients.get(client.name) is client:
                self._by_token.pop(client.token_hash, None)
                del self.clients[client.name]
                if before is not None:
                    self._remember(before)
            raise

    def _free_name(self) -> str:
        while (name := f"client-{secrets.token_hex(4)}") in self.clients:
            pass
        return name

    async def revoke(self, name: str, *, invite: bool = False) -> None:
        """The client's token is worth nothing from now on. `invite`: nor is the invite it came with. Raises:
        `not-found`.
        """
        client = self.clients.get(name)
        if client is None or client.revoked:
            raise ProblemError("not-found", f"no client is named {name[:64]!r}")
        self._by_token.pop(client.token_hash, None)
        self.clients[name] = replace(client, revoked=True)
        table = tables.clients
        await self._store.write(update(table).where(table.c.name == name).values(revoked_at=time.time()))
        if invite:
            await self.invites.void(client.invite_hash)

    def rotate_operator(self) -> OperatorToken:
        """Another token in the data folder; the one before is worth nothing from now on. Raises: OSError."""
        token = fresh_secret()
        write_secret(self._data_dir / OPERATOR_TOKEN, token)
        self._operator = hash_of(token)
        return OperatorToken(token=token)
