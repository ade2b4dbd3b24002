"""Clients as the pages list them: with a word for how each is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from thinwire.coordinator.records.bills import Bills
from thinwire.coordinator.records.people import Order, Person
from thinwire.coordinator.records.people import People as PeopleRows
from thinwire.coordinator.runs.budget import day_of

CLIENTS_A_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Listed:
    """`word`: revoked, working (it has a task), waiting (its poll is parked), here, silent, or never (heard)."""

    client: str
    group: str
    role: str
    word: str
    works_for: str | None
    seen_at: float | None
    enrolled_at: float
    today_bytes: int
    uplink_bytes: int
    downlink_bytes: int
    resumed_bytes: int


@dataclass(frozen=True, slots=True)
class ClientsPage:
    """`total`: of those that were looked for; pages count from 1."""

    clients: list[Listed]
    page: int
    pages: int
    total: int


class People:
    """Everything raises `storage-failed`. `clock`: Unix seconds."""

    def __init__(
        self, rows: PeopleRows, bills: Bills, *, silent_after_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._rows = rows
        self._bills = bills
        self._silent_after_s = silent_after_s
        self._clock = clock

    async def page(self, about: str, order: Order, page: int, *, backwards: bool, revoked: bool) -> ClientsPage:
        """The clients whose name or group has this text in it."""
        total, found = await self._rows.page(
            about, order, (page - 1) * CLIENTS_A_PAGE, CLIENTS_A_PAGE, backwards=backwards, revoked=revoked
        )
        today = await self._bills.day_of([one.name for one in found], day_of(self._clock()))
        listed = [self._listed(one, today.get(one.name, 0)) for one in found]
        return ClientsPage(listed, page, max(1, -(-total // CLIENTS_A_PAGE)), total)

    def _listed(self, one: Person, today: int) -> Listed:
        return Listed(
            one.name, one.group, one.role, self._word(one), one.works_for, one.seen_at, one.enrolled_at,
            today, one.spent.uplink, one.spent.downlink, one.spent.resumed,
        )  # fmt: skip

    def _word(self, one: Person) -> str:
        if one.revoked_at is not None:
            return "revoked"
        if one.parked:
            return "waiting"
        if one.seen_at is None:
            return "never"
        if one.seen_at < self._clock() - self._silent_after_s:
            return "silent"
        if one.works_for is not None:
            return "working"
        return "silent" if one.gone else "here"
