"""Payloads by digest: who may have one, and whom its bytes belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thinwire.coordinator.objects.objects import Objects, payload
from thinwire.coordinator.records.clients import Client
from thinwire.coordinator.records.payloads import Named
from thinwire.coordinator.records.payloads import Payloads as PayloadRows
from thinwire.coordinator.records.tasks import Tasks
from thinwire.methods.values import EVALUATE
from thinwire.protocol.reasons import ProblemError

from .models import Models


@dataclass(frozen=True, slots=True)
class Found:
    """A payload's file, and what its bytes are charged to: `exchange` None for a final model."""

    path: Path
    run: str
    exchange: int | None
    is_evaluation: bool
    public: bool


class Payloads:
    """A run's payloads are for the clients of its group, unless it says `public`; a private part is for one alone."""

    def __init__(self, rows: PayloadRows, tasks: Tasks, objects: Objects, models: Models) -> None:
        self._rows = rows
        self._tasks = tasks
        self._objects = objects
        self._models = models

    async def plan(self, digest: bytes, client: Client) -> Found:
        """Raises: `plan-not-found`, `storage-failed`."""
        named = [one for one in await self._rows.named(digest) if one.kind == "plan" and one.group == client.group]
        if not named:
            raise ProblemError("plan-not-found")
        try:
            return self._found(await self._of(client, named), public=False)
        except FileNotFoundError:
            raise ProblemError("plan-not-found") from None

    async def public(self, digest: bytes) -> Found | None:
        """What anybody may have. Raises: `storage-failed`."""
        named = [one for one in await self._rows.named(digest) if _is_public(one)]
        return await self._whole(named[0], public=True) if named else None

    async def payload(self, digest: bytes, client: Client) -> Found:
        """A part of a broadcast, or a final model. Raises: `payload-not-found`, `storage-failed`."""
        named = [one for one in await self._rows.named(digest) if _is_readable(one, client)]
        if not named:
            raise ProblemError("payload-not-found")
        return await self._whole(await self._of(client, named), public=any(map(_is_public, named)))

    async def _of(self, client: Client, named: Sequence[Named]) -> Named:
        """The newest exchange that names it and has a task of this client, or else the newest."""
        if len(named) > 1:
            asked = await self._tasks.asked(client.name, {one.run for one in named})
            named = [one for one in named if (one.run, one.exchange) in asked] or named
        return named[0]

    async def _whole(self, named: Named, *, public: bool) -> Found:
        if named.kind == "model":
            await self._models.check_final(named.run, named.digest)
        try:
            return self._found(named, public=public)
        except FileNotFoundError:
            raise ProblemError("payload-not-found") from None

    def _found(self, named: Named, *, public: bool) -> Found:
        path = self._objects.local(payload(named.run, named.digest))
        return Found(path, named.run, named.exchange, named.exchange_kind == EVALUATE, public)


def _is_public(named: Named) -> bool:
    return named.public and named.kind in ("part", "model")


def _is_readable(named: Named, client: Client) -> bool:
    if named.kind == "private":
        return named.client == client.name
    return _is_public(named) or (named.kind in ("part", "model") and named.group == client.group)
