"""Care for a link that costs money or is needed by others: bytes per day, quiet hours, and when to wait for either.

Nothing is cut in the middle: what may not cross now is not begun. So a day ends at most by what polls and headers cost
above its budget, and quiet hours begin at most by one transfer later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, Protocol

from thinwire.edge_client.console import Say
from thinwire.machine.quantities import in_bytes

METERED_BYTES_PER_DAY: Final = 50_000_000
"""Of a metered link whose user names no budget."""
_LONGEST_SLEEP_S: Final = 60.0
_NO_CLOCK_BEFORE: Final = datetime(2025, 1, 1)
"""A device without a clock of its own begins in 1970, or with its firmware; that is no new day."""
_TALK_BYTES: Final = 2_000
"""More than a poll, or the framing of one exchange, costs, its connection included."""


class OverBudgetError(Exception):
    """One transfer needs more than a whole day may cost."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Of the local clock, every day; they may pass midnight."""

    begin: time
    end: time

    def left(self, now: datetime) -> timedelta:
        """Until they end; zero outside of them."""
        clock = now.time()
        within = self.begin <= clock < self.end if self.begin <= self.end else clock >= self.begin or clock < self.end
        return _until(now, self.end) if within else timedelta()

    def ahead(self, now: datetime) -> timedelta:
        """Until they begin again."""
        return _until(now, self.begin)


def _until(now: datetime, clock: time) -> timedelta:
    then = now.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
    return then - now if then > now else then + timedelta(days=1) - now


def parse_quiet_hours(text: str) -> QuietHours:
    """Of `22:00-06:30`. Raises: `ValueError`."""
    match = re.fullmatch(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)", text.strip())
    try:
        if match is not None:
            hour, minute, end_hour, end_minute = map(int, match.groups())
            found = QuietHours(time(hour, minute), time(end_hour, end_minute))
            if found.begin != found.end:
                return found
    except ValueError:
        pass
    raise ValueError(f"no quiet hours are {text!r}: write, for example, 22:00-06:30")


@dataclass(frozen=True, slots=True)
class Day:
    """`begun_at`: bytes that the client's folder had counted in all when this local day, an ISO date, began."""

    date: str
    begun_at: int


class Care(Protocol):
    """Of a link that may not always be used."""

    def hold(self, size: int = 0) -> None:
        """Returns when so many bytes may cross."""

    def poll_s(self, wished_s: int) -> int:
        """How long a poll may be parked."""


class LinkCare:
    """`counted`: bytes this client has ever carried, both directions. `recall`, `keep`: the day, across processes.

    `now` is local time; `sleep` takes seconds; `hindered` hears what is waited for, and "" when that is over.
    """

    def __init__(
        self,
        bytes_per_day: int | None,
        quiet: QuietHours | None,
        *,
        counted: Callable[[], int],
        recall: Callable[[], Day | None],
        keep: Callable[[Day], None],
        now: Callable[[], datetime],
        sleep: Callable[[float], None],
        say: Say,
        hindered: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._bytes_per_day = bytes_per_day
        self._quiet = quiet
        self._counted = counted
        self._day = recall()
        self._keep = keep
        self._now = now
        self._sleep = sleep
        self._say = say
        self._hindered = hindered

    @property
    def today(self) -> int | None:
        """Bytes of this day, where they are limited."""
        return None if self._bytes_per_day is None else self._used(self._now())

    def hold(self, size: int = 0) -> None:
        """Returns when so many bytes, and what it takes to speak of them, may cross. Raises: `OverBudgetError`."""
        size += _TALK_BYTES
        if self._bytes_per_day is not None and size > self._bytes_per_day:
            raise OverBudgetError(f"{in_bytes(size)} in one transfer; a day may cost {in_bytes(self._bytes_per_day)}")
        told = ""
        while True:
            now = self._now()
            wait, why = timedelta(), ""
            if self._bytes_per_day is not None and self._used(now) + size > self._bytes_per_day:
                wait, why = _until(now, time()), f"the {in_bytes(self._bytes_per_day)} of today are used up"
            if self._quiet is not None and (left := self._quiet.left(now)) > wait:
                wait, why = left, "quiet hours"
            if not wait:
                if told:
                    self._hindered("")
                return
            words = f"{why}; waiting until {(now + wait):%a %H:%M}"
            if words != told:
                self._say(words)
                self._hindered(words)
                told = words
            # A clock that is set right meanwhile is looked at again soon.
            self._sleep(min(wait.total_seconds(), _LONGEST_SLEEP_S))

    def poll_s(self, wished_s: int) -> int:
        """How long a poll may be parked: it ends when quiet hours begin."""
        if self._quiet is None:
            return wished_s
        return max(1, min(wished_s, int(self._quiet.ahead(self._now()).total_seconds())))

    def _used(self, now: datetime) -> int:
        """Bytes of this day."""
        date, counted = now.date().isoformat(), self._counted()
        unset = self._day is not None and now < _NO_CLOCK_BEFORE
        if self._day is None or (self._day.date != date and not unset) or self._day.begun_at > counted:
            self._day = Day(date, counted)
            self._keep(self._day)
        return counted - self._day.begun_at
