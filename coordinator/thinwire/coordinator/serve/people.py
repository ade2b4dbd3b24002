"""Clients as the pages list them: with a word for how each is, and one of them whole."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from thinwire.coordinator.records.bills import Bills
from thinwire.coordinator.records.people import Order, Person, Turn
from thinwire.coordinator.records.people import People as PeopleRows
from thinwire.coordinator.runs.budget import day_of
from thinwire.protocol.reasons import ProblemError

CLIENTS_A_PAGE: Final = 100
TURNS: Final = 50
RATE_OVER_S: Final = (2.0, 60.0)
"""A rate is of two looks that lie so far apart: sooner it would jump, later it would not be one of now."""
_MOST_LOOKS: Final = 2000


@dataclass(frozen=True, slots=True)
class Listed:
    """`label`: what people call it, where that is not its name. `word`: revoked, working (it has a task), waiting (its
    poll is parked), here, silent, or never (heard). `bytes_a_second`: both ways, since the page was looked at before;
    None where nobody looked within the minute. `breaks`: how often its last connection ended.
    """

    client: str
    label: str | None
    group: str
    role: str
    word: str
    works_for: str | None
    seen_at: float | None
    enrolled_at: float
    bytes_a_second: float | None
    today_bytes: int
    uplink_bytes: int
    downlink_bytes: int
    resumed_bytes: int
    breaks: int
    version: str | None


@dataclass(frozen=True, slots=True)
class ClientsPage:
    """`total`: of those that were looked for; pages count from 1."""

    clients: list[Listed]
    page: int
    pages: int
    total: int


@dataclass(frozen=True, slots=True)
class Spent:
    """Bytes of one kind."""

    kind: str
    requests: int
    uplink_payload_bytes: int
    uplink_framing_bytes: int
    downlink_payload_bytes: int
    downlink_framing_bytes: int


@dataclass(frozen=True, slots=True)
class ClientDetail:
    """One client. `turns`: its latest tasks, the newest first."""

    client: Listed
    kinds: list[Spent]
    turns: list[Turn]


class People:
    """Everything raises `storage-failed`. `clock`: Unix seconds."""

    def __init__(
        self, rows: PeopleRows, bills: Bills, *, silent_after_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._rows = rows
        self._bills = bills
        self._silent_after_s = silent_after_s
        self._clock = clock
        self._looks: OrderedDict[str, list[tuple[float, int]]] = OrderedDict()

    async def page(self, about: str, order: Order, page: int, *, backwards: bool, revoked: bool) -> ClientsPage:
        """The clients whose name or label has this text in it, or whose group it is."""
        total, found = await self._rows.page(
            about, order, (page - 1) * CLIENTS_A_PAGE, CLIENTS_A_PAGE, backwards=backwards, revoked=revoked
        )
        return ClientsPage(await self._listed(found), page, max(1, -(-total // CLIENTS_A_PAGE)), total)

    async def one(self, name: str) -> ClientDetail:
        """The client of this name. Raises: `not-found`."""
        found = await self._rows.one(name)
        if found is None:
            raise ProblemError("not-found", f"no client is named {name[:64]!r}")
        kinds = [
            Spent(kind, it.requests, it.uplink_payload, it.uplink_framing, it.downlink_payload, it.downlink_framing)
            for kind, it in (await self._rows.kinds(name)).items()
        ]
        (listed,) = await self._listed([found])
        return ClientDetail(listed, kinds, await self._rows.turns(name, TURNS))

    async def _listed(self, found: list[Person]) -> list[Listed]:
        today = await self._bills.day_of([one.name for one in found], day_of(self._clock()))
        return [self._one(one, today.get(one.name, 0)) for one in found]

    def _one(self, one: Person, today: int) -> Listed:
        return Listed(
            one.name, one.label, one.group, one.role, self._word(one), one.works_for, one.seen_at, one.enrolled_at,
            self._rate(one.name, one.spent.wire), today, one.spent.uplink, one.spent.downlink, one.spent.resumed,
            one.breaks, one.software,
        )  # fmt: skip

    def _rate(self, name: str, wire: int) -> float | None:
        """Bytes a second since the latest look that lies far enough back; this one is remembered for the next."""
        now, (least, most) = self._clock(), RATE_OVER_S
        looks = [look for look in self._looks.pop(name, []) if now - look[0] <= most]
        before = next((look for look in reversed(looks) if now - look[0] >= least), None)
        if not looks or now - looks[-1][0] >= least / 2:
            looks.append((now, wire))
        self._looks[name] = looks
        if len(self._looks) > _MOST_LOOKS:
            self._looks.popitem(last=False)
        return None if before is None else max(0.0, (wire - before[1]) / (now - before[0]))

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
