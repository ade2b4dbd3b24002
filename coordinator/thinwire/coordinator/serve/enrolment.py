"""Who is who: clients' tokens in memory, beside the owner's, so that checking one waits for nothing.

Every change is durable first, then visible; a change that another process has made is looked up when a signal says so.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from thinwire.coordinator.objects.secret_files import fresh_secret, token_of
from thinwire.coordinator.records.clients import Client, Clients
from thinwire.coordinator.records.invites import SHORT_DIGITS, Invites
from thinwire.coordinator.records.secrets import Secrets
from thinwire.coordinator.signals.signals import Signals
from thinwire.coordinator.wire.identity import hash_of
from thinwire.protocol.messages import Enrolled, Invite, InviteList, InviteRequest, InviteView
from thinwire.protocol.messages import Enrolment as EnrolmentMessage
from thinwire.protocol.reasons import ProblemError

from .owner import OPERATOR, Owner

LOOK_S: Final = 0.5
"""Without a hint for so long it is looked whether another process has let anybody in, or shut anybody out."""
_log = structlog.get_logger("thinwire.coordinator")


class Enrolment:
    """`load` first; `follow` for as long as the process lives. `ended`: is told whose token is worth nothing any more.
    `shared`: others may let clients in and shut them out. `clock`: Unix seconds.
    """

    def __init__(
        self,
        clients: Clients,
        invites: Invites,
        stored: Secrets,
        signals: Signals,
        data_dir: Path,
        *,
        max_clients: int,
        ended: Callable[[str], None],
        shared: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = clients
        self._invites = invites
        self._signals = signals
        self.owner = Owner(stored, signals, data_dir, shared=shared)
        self._max_clients = max_clients
        self._shared = shared
        self._version = 0
        self._ended = ended
        self._clock = clock
        self.clients: dict[str, Client] = {}
        self._by_token: dict[bytes, str] = {}
        self._newly_seen: set[str] = set()

    async def load(self) -> None:
        """Everybody, as the rows know them. Raises: `storage-failed`, `storage-full`, OSError."""
        await self._invites.sweep(self._clock())
        for client in await self._rows.all():
            self._remember(client)
        await self.owner.load()
        self._version, _ = await self._rows.changed(0)

    async def follow(self) -> None:
        """Looks up what has changed, until cancelled."""
        with self._signals.subscribe("access") as heard:
            while True:
                hints = await heard.wait(LOOK_S if self._shared else None)
                try:
                    for _, item in hints:
                        await self.look_up(item)
                    if self._shared and not hints:
                        await self._catch_up()
                except ProblemError as error:
                    _log.error("access not looked up", error=str(error))

    async def _catch_up(self) -> None:
        """Who was let in or shut out elsewhere, whether or not a hint of it came."""
        version, names = await self._rows.changed(self._version)
        for name in (*names, OPERATOR):
            await self.look_up(name)
        self._version = version

    async def find_elsewhere(self, token_hash: bytes) -> Client | None:
        """The client whose token has this hash, which another process may have given a moment ago. Raises:
        `storage-failed`.
        """
        name = await self._rows.named_by(token_hash) if self._shared else None
        if name is None:
            return None
        await self.look_up(name)
        return self.find(token_hash)

    async def look_up(self, item: str) -> None:
        """The client of this name, or the operator, as the rows know it now. Raises: `storage-failed`."""
        if item == OPERATOR:
            await self.owner.look_up()
            return
        while True:
            before = self.clients.get(item)
            found = await self._rows.get(item)
            if self.clients.get(item) is before:
                break  # else what was found may be older than what is known
        if found is not None and found != before:
            used = before is not None and before.seen and before.token_hash == found.token_hash
            self._remember(replace(found, seen=found.seen or used))
            self._signals.remind(f"client:{item}")  # a poll may have looked before this was known

    def _remember(self, client: Client) -> None:
        before = self.clients.get(client.name)
        self.clients[client.name] = client
        if before is not None and not before.revoked and not self.is_current(before):
            self._by_token.pop(before.token_hash, None)
            self._newly_seen.discard(client.name)
            self._ended(client.name)
        if not client.revoked:
            self._by_token[client.token_hash] = client.name
        if client.deleted:
            del self.clients[client.name]

    # -- who asks ---------------------------------------------------------------------------------------------

    def find(self, token_hash: bytes) -> Client | None:
        """The client whose token has this hash."""
        name = self._by_token.get(token_hash)
        return None if name is None else self.clients[name]

    def is_current(self, client: Client) -> bool:
        """Whether the token that was shown is still in force."""
        now = self.clients.get(client.name)
        return now is not None and now.token_hash == client.token_hash and not now.revoked

    def used(self, name: str) -> None:
        """The client's token has been good for something."""
        client = self.clients.get(name)
        if client is not None and not client.seen and not client.revoked:
            self.clients[name] = replace(client, seen=True)
            self._newly_seen.add(name)

    async def save(self) -> None:
        """Stores whose tokens have been used for the first time. Raises: `storage-failed`, `storage-full`."""
        names, self._newly_seen = self._newly_seen, set()
        try:
            await self._rows.mark_seen([self.clients[name] for name in names])
        except ProblemError:
            self._newly_seen |= names
            raise

    # -- getting in -------------------------------------------------------------------------------------------

    async def invite(self, wanted: InviteRequest) -> Invite:
        """A new invite. Raises: `storage-failed`, `storage-full`."""
        code = fresh_secret()
        expires_at = None if wanted.expires_in_s is None else self._clock() + wanted.expires_in_s
        made = await self._invites.issue(hash_of(code), wanted.group, wanted.role, wanted.uses, expires_at)
        _log.info("invite made", invite=made.digits, role=wanted.role, group=wanted.group, uses=wanted.uses)
        return Invite(invite=code, group=wanted.group, role=wanted.role, uses=wanted.uses)

    async def invites(self) -> InviteList:
        """All that have not expired. Raises: `storage-failed`."""
        issued = await self._invites.list(self._clock())
        views = [
            InviteView(invite=it.digits, group=it.group, role=it.role, uses_left=it.uses_left, expires_at=it.expires_at)
            for it in issued
        ]
        return InviteList(invites=views)

    async def void(self, digits: str) -> None:
        """Nobody enrols any more with the invite whose hash begins so. Raises: `bad-request` (too few digits to say
        which), `not-found`, `storage-failed`, `storage-full`.
        """
        if not await self._invites.void(digits):
            raise ProblemError("not-found", f"no invite is in force whose name begins with {digits[:64]!r}")
        _log.info("invite void", invite=digits)

    async def enrol(self, wanted: EnrolmentMessage) -> Enrolled:
        """Raises: `invite-invalid`, `name-taken`, `too-many-requests`, `storage-failed`, `storage-full`.

        Asked again by a client that never saw the answer (same invite, same name, token unused), it uses the invite up
        once and gives a token: the same where the nonce is the same, else a new one, which alone is worth something.
        """
        await self.save()  # an unused token could be asked for again
        invite = hash_of(wanted.invite)
        name = wanted.name or self._free_name(wanted.nonce)
        token = token_of(wanted.nonce, name, invite)
        client = await self._rows.enrol(name, invite, hash_of(token), self._clock(), self._max_clients)
        digits = invite.hex()[:SHORT_DIGITS]
        _log.info("enrolled", client=name, role=client.role, group=client.group, invite=digits)
        return self._changed(client, token)

    async def rotate(self, name: str, presented: bytes | None, nonce: bytes | None = None) -> Enrolled:
        """Another token for the client that asks; the one it has is worth nothing from now on, but to ask for this
        again until the new one has been used; with the same nonce it is the same. `presented`: the hash of the token
        that came with the request.

        Raises: `token-missing`, `token-invalid`, `not-allowed`, `storage-failed`, `storage-full`.
        """
        if presented is None:
            raise ProblemError("token-missing")
        before = self.clients.get(name)
        if before is None or not before.asks_again(presented):
            asker = self.find(presented)
            if asker is None and not self.owner.is_owner(presented):
                raise ProblemError("token-invalid")
            if asker is None or asker.name != name:
                raise ProblemError("not-allowed", "a client asks for its own token")
        await self.save()
        token = token_of(nonce, name, presented)
        client = await self._rows.rotate(name, presented, hash_of(token))
        _log.info("token replaced", client=name)
        return self._changed(client, token)

    def _changed(self, client: Client, token: str) -> Enrolled:
        self._remember(client)
        self._tell(client.name)
        return Enrolled(client=client.name, token=token, group=client.group, role=client.role)

    def _tell(self, name: str) -> None:
        self._signals.publish("access", name)
        self._signals.publish(f"client:{name}")  # a poll that waits with another token ends

    def _free_name(self, nonce: bytes | None) -> str:
        if nonce is not None:
            return f"client-{hashlib.sha256(b'name' + nonce).hexdigest()[:16]}"
        while (name := f"client-{secrets.token_hex(4)}") in self.clients:
            pass
        return name

    # -- shutting out -----------------------------------------------------------------------------------------

    async def revoke(self, name: str, *, invite: bool = False) -> None:
        """The client's token is worth nothing from now on, and nobody waits for its answers. `invite`: nor is the
        invite it came with. Asked again, it does what has not been done. Raises: `not-found`, `storage-failed`,
        `storage-full`.
        """
        if name not in self.clients:
            raise ProblemError("not-found", f"no client is named {name[:64]!r}")
        runs = await self._rows.revoke(name, self._clock(), invite=invite)
        _log.info("revoked", client=name, with_invite=invite)
        if (known := self.clients.get(name)) is not None:
            self._remember(replace(known, revoked=True))
        self._out(name, runs)

    async def delete(self, name: str) -> None:
        """The client is revoked and in no list any more; its bytes, and its name in histories, stay. Raises:
        `not-found`, `storage-failed`, `storage-full`.
        """
        runs = await self._rows.delete(name, self._clock())
        _log.info("deleted", client=name)
        if (known := self.clients.get(name)) is not None:
            self._remember(replace(known, revoked=True, deleted=True))
        self._out(name, runs)

    def _out(self, name: str, runs: list[str]) -> None:
        self._tell(name)
        for run in runs:
            self._signals.publish(f"run:{run}", f"client:{name}")
