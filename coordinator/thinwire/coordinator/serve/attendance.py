"""Who was in each round, by name: nobody is missing without a word of why."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.participation import Effort, Missing, Participation
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.runs.rows import LAPSED, STALE, ExchangeRow
from thinwire.methods.values import EVALUATE
from thinwire.protocol.messages import Absence, Attendance, AttendanceList, Came

NAMED: Final = 20
"""Clients that are named for an exchange, at most."""
IN_A_SENTENCE: Final = 5
LATEST: Final = 20
"""Exchanges that are told of where nobody says how many."""
MOST_EXCHANGES: Final = 200
_MOST_ROWS: Final = 5000
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """A client's way through an exchange, in seconds from its opening: `download_s`, `train_s`, `upload_s` as far as
    they are known; `wait_s`: from the answer's arrival to the end of the exchange. `straggler`: it took, or takes
    by now, more than half as long again as the middle one, or has not answered at all. `answered`: it has.
    """

    client: str
    state: str
    before_s: float
    download_s: float
    train_s: float
    upload_s: float
    wait_s: float
    straggler: bool
    answered: bool

    @property
    def busy_s(self) -> float:
        """From the opening to the answer."""
        return self.before_s + self.download_s + self.train_s + self.upload_s


@dataclass(frozen=True, slots=True)
class Timeline:
    """One exchange, client by client; `seconds`: how long it has been open."""

    exchange: int
    round: int
    seconds: float
    closed: bool
    stretches: list[Stretch]


class Attendances:
    """Views of rows as of now. Everything raises `storage-failed`. `silent_after_s`: seconds without a request after
    which a client counts as gone. `called`: what people call the client of a name. `clock`: Unix seconds.
    """

    def __init__(
        self,
        runs: Runs,
        exchanges: Exchanges,
        participation: Participation,
        *,
        silent_after_s: float,
        called: Callable[[str], str] = str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._called = called
        self._runs = runs
        self._exchanges = exchanges
        self._participation = participation
        self._silent_after_s = silent_after_s
        self._clock = clock

    async def of(self, key: str, before: int | None = None, latest: int = LATEST) -> AttendanceList:
        """The latest so many exchanges of a run, in order; `before`: those before this one. Raises: `run-not-found`."""
        row = await self._runs.find(key)
        last = row.exchange if before is None else min(before - 1, row.exchange)
        first = max(0, last - min(latest, MOST_EXCHANGES) + 1)
        rows = [found for index in range(first, last + 1) if (found := await self._exchanges.get(row.id, index))]
        asked = await self._participation.asked(row.id, first, last)
        missing = await self._participation.missing(row.id, first, last, _MOST_ROWS)
        came: Mapping[int, list[tuple[str, int]]] | None = None
        if row.settings.max_staleness is not None:
            came = await self._participation.came(row.id, first, last, max(0, first - row.settings.max_staleness))
        attended = []
        for one in rows:
            absent = [who for who in missing if who.exchange == one.exchange]
            if came is None or one.kind == EVALUATE:
                attended.append(self._attendance(one, asked.get(one.exchange, 0), absent))
            else:
                attended.append(self._buffered(one, came.get(one.exchange, []), absent))
        return AttendanceList(exchanges=attended)

    def _buffered(
        self, row: ExchangeRow, came: Collection[tuple[str, int]], missing: Collection[Missing]
    ) -> Attendance:
        """Of an asynchronous run, whose answers count wherever they began."""
        absent = [Absence(client=one.client, why=self._why(row, one)) for one in list(missing)[:NAMED]]
        named = [Came(client=client, staleness=age) for client, age in list(came)[:NAMED]]
        whose = [f"{self._called(one.client)} {old(one.staleness)}" for one in named[:IN_A_SENTENCE]]
        more = [f"{len(came) - len(whose)} more"] if len(came) > len(whose) else []
        said = sentence(row.answers, row.size, absent, len(missing), self._called)
        if whose:
            head, _, tail = said.partition("; ")
            said = f"{head}: {', '.join([*whose, *more])}" + (f"; {tail}" if tail else "")
        return Attendance(
            exchange=row.exchange, round=row.round, step=row.step, kind=row.kind, counted=row.answers, asked=row.size,
            absent=absent, said=_with_left_out(said, row), came=named,
        )  # fmt: skip

    def _attendance(self, row: ExchangeRow, asked: int, missing: Collection[Missing]) -> Attendance:
        absent = [Absence(client=one.client, why=self._why(row, one)) for one in list(missing)[:NAMED]]
        return Attendance(
            exchange=row.exchange, round=row.round, step=row.step, kind=row.kind, counted=row.answers, asked=asked,
            absent=absent,
            said=_with_left_out(sentence(row.answers, asked, absent, asked - row.answers, self._called), row),
        )  # fmt: skip

    def _why(self, row: ExchangeRow, one: Missing) -> str:
        # Of one that is over, whoever has not been heard since; who trains for long asks for nothing meanwhile.
        closed_at = row.closed_at if row.closed else None
        heard_by = self._clock() - self._silent_after_s if closed_at is None else closed_at
        silent = one.seen_at is None or one.seen_at < heard_by
        since = "never heard" if one.seen_at is None else f"silent since {moment(one.seen_at, self._clock())}"
        if one.revoked:
            return "revoked"
        if one.reason == "declined":
            return f"declined: {one.detail}" if one.detail else "declined"
        if one.reason == STALE:
            return f"too late: {one.detail}"
        if one.state == "refused":
            return f"refused: {one.detail or one.reason}"
        if one.state == "open" and one.answered:
            return "its answer is being checked"
        if silent:
            return since
        if one.reason == LAPSED:
            return "gone before it took the task"
        return "at work" if one.state == "open" else "too late"

    async def timeline(self, key: str, exchange: int | None, most: int) -> Timeline | None:
        """How the clients of one exchange, or of the newest that has tasks, spent their time, the slowest first; None
        where there is no such exchange. Raises: `run-not-found`.
        """
        row = await self._runs.find(key)
        wanted = (row.exchange, row.exchange - 1) if exchange is None else (exchange,)
        for index in wanted:
            found = None if index < 0 else await self._exchanges.get(row.id, index)
            if found is not None:
                efforts = await self._participation.efforts(row.id, index, most)
                if efforts or exchange is not None:
                    return self._timeline(found, efforts)
        return None

    def _timeline(self, row: ExchangeRow, efforts: list[Effort]) -> Timeline:
        now = self._clock()
        opened_at = row.clock_at - row.seconds if row.opened_at is None else row.opened_at
        end = row.closed_at if row.closed and row.closed_at is not None else now
        lasted = max(0.0, end - opened_at)
        arrivals = sorted(one.arrived_at - opened_at for one in efforts if one.arrived_at)
        usual = arrivals[len(arrivals) // 2] if arrivals else lasted
        return Timeline(
            row.exchange, row.round, lasted, row.closed,
            [stretch(one, opened_at, lasted, usual, closed=row.closed) for one in efforts],
        )  # fmt: skip


def stretch(one: Effort, opened_at: float, lasted: float, usual: float, *, closed: bool) -> Stretch:
    """Of an exchange that was opened at this time, Unix seconds, and has lasted for so long; `usual`: seconds from
    there to the middle one of the answers.
    """
    arrived = one.arrived_at is not None and one.arrived_at > 0
    took = min(max(0.0, (one.arrived_at or 0.0) - opened_at), lasted) if arrived else lasted
    download = min(one.download_s, took)
    train = min(max(0.0, one.metrics.get("seconds", 0.0)), took - download)
    upload = min(one.upload_s, took - download - train) if arrived else 0.0
    # What is left: its poll had not been told yet, or it says not how long it trained.
    before = took - download - train - upload
    late = took > 1.5 * usual or (closed and not arrived)
    return Stretch(one.client, one.state, before, download, train, upload, lasted - took, late, arrived)


def old(staleness: int) -> str:
    """`new`, `1 exchange old`, `3 exchanges old`: an answer that counts in an asynchronous run."""
    if not staleness:
        return "new"
    return f"{staleness} exchange{'s' if staleness > 1 else ''} old"


def sentence(counted: int, asked: int, absent: Collection[Absence], missing: int, called: Callable[[str], str]) -> str:
    """`5 of 7; ward-2 declined: out of memory; ward-6 silent since 14:02 UTC`."""
    named = [f"{called(one.client)} {one.why}" for one in list(absent)[:IN_A_SENTENCE]]
    more = missing - len(named)
    return "; ".join([f"{counted} of {asked}", *named, *([f"{more} more missing"] if more > 0 else [])])


def _with_left_out(said: str, row: ExchangeRow) -> str:
    names = sorted(row.left_out or {})
    more = len(names) - IN_A_SENTENCE
    named = ", ".join(names[:IN_A_SENTENCE]) + (f" and {more} more" if more > 0 else "")
    return f"{said}; left out by a budget: {named}" if names else said


def moment(at: float, now: float) -> str:
    """The time of day, in UTC, of what was less than a day ago; else with its date."""
    when = datetime.fromtimestamp(at, UTC)
    return when.strftime("%H:%M UTC" if abs(now - at) < _DAY_S else "%Y-%m-%d %H:%M UTC")
