"""Care for the link: what a day may cost, when nothing begins, how fast it may be. The clock is an argument."""

from __future__ import annotations

import math
from datetime import datetime, time, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge_client.conftest import MakeTransfer
from tests.edge_client.cutting_server import CuttingServer
from thinwire.edge_client.console import Say
from thinwire.edge_client.link.care import Day, LinkCare, OverBudgetError, QuietHours, parse_quiet_hours
from thinwire.edge_client.link.emulated import Pacer, limited
from thinwire.edge_client.link.resumable import download, upload
from thinwire.edge_client.link.sockets import CountingBackend
from thinwire.edge_client.settings import JoinSettings
from thinwire.machine.link_rates import LinkRates
from thinwire.protocol.identity import digest_of

NOON = datetime(2026, 3, 10, 12, 0, 0, 250_000)
BUDGET = 1_000_000


class _Days:
    """A client's clock, counter and memory; processes come and go."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now
        self.counted = 0
        self.day: Day | None = None
        self.pauses: list[float] = []
        self.said: list[str] = []
        self.sleep = self._pass

    def _pass(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.pauses.append(seconds)

    def _keep(self, day: Day) -> None:
        self.day = day

    def care(
        self, bytes_per_day: int | None = None, quiet: str | None = None, hindered: Say = lambda _: None
    ) -> LinkCare:
        return LinkCare(
            bytes_per_day,
            None if quiet is None else parse_quiet_hours(quiet),
            counted=lambda: self.counted,
            recall=lambda: self.day,
            keep=self._keep,
            now=lambda: self.now,
            sleep=self.sleep,
            say=self.said.append,
            hindered=hindered,
        )


def test_without_wishes_nothing_waits() -> None:
    days = _Days()
    care = days.care()
    care.hold(1 << 40)
    assert care.poll_s(600) == 600
    assert days.pauses == []


def test_a_day_costs_no_more_than_its_budget_and_what_is_left_waits_for_the_next() -> None:
    days = _Days()
    spent: dict[str, int] = {}
    care = days.care(BUDGET)
    for _ in range(50):
        care.hold(90_000)
        days.counted += 90_000
        spent[days.now.date().isoformat()] = spent.get(days.now.date().isoformat(), 0) + 90_000
    assert all(total <= BUDGET for total in spent.values())
    assert len(spent) == 5
    assert days.now.time() == time(), "it goes on at midnight"
    assert "used up; waiting until Wed 00:00" in days.said[0]


def test_a_restart_forgets_no_byte_of_the_day() -> None:
    days = _Days()
    days.counted = 7 * BUDGET
    days.care(BUDGET).hold(0)
    days.counted += 900_000
    days.care(BUDGET).hold(50_000)
    assert days.pauses == []
    days.care(BUDGET).hold(100_000)
    assert days.now.date().isoformat() == "2026-03-11"


def test_what_never_fits_is_an_error_and_not_a_wait_for_ever() -> None:
    with pytest.raises(OverBudgetError, match=r"a day may cost 1\.00 MB"):
        _Days().care(BUDGET).hold(BUDGET)


@given(
    begin=st.times(timezones=st.none()),
    end=st.times(timezones=st.none()),
    now=st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
)
def test_quiet_hours_end_when_they_say_and_begin_again_within_a_day(begin: time, end: time, now: datetime) -> None:
    begin, end = begin.replace(second=0, microsecond=0), end.replace(second=0, microsecond=0)
    hours = QuietHours(begin, end)
    left = hours.left(now)
    if left:
        assert (now + left).time() == end
        assert left <= timedelta(days=1)
    assert not hours.left(now + left) or begin == end
    assert timedelta() < hours.ahead(now) <= timedelta(days=1)
    assert (now + hours.ahead(now)).time() == begin


def test_a_clock_that_is_set_right_ends_quiet_hours_that_were_none() -> None:
    """A device without a battery for its clock begins in the middle of a night that is none."""
    days = _Days(NOON.replace(hour=23))

    def wakes(seconds: float) -> None:
        days.pauses.append(seconds)
        days.now = NOON

    days.sleep = wakes
    days.care(quiet="22:00-06:30").hold()
    assert sum(days.pauses) <= 60
    assert len(days.said) == 1


def test_a_start_without_a_clock_is_no_new_day() -> None:
    """Else whoever pulls the plug would get the day's bytes again."""
    days = _Days()
    days.care(BUDGET).hold()
    days.counted += 900_000
    for now in (datetime(1970, 1, 1), NOON):
        days.now = now
        assert days.care(BUDGET).today == 900_000
    days.now += timedelta(days=1)
    assert days.care(BUDGET).today == 0


def test_what_is_waited_for_is_told_and_that_it_is_over() -> None:
    days, hindered = _Days(NOON.replace(hour=23)), list[str]()
    days.care(quiet="22:00-06:30", hindered=hindered.append).hold()
    assert hindered == ["quiet hours; waiting until Wed 06:30", ""]


def test_nothing_begins_in_quiet_hours_and_no_poll_reaches_into_them() -> None:
    days = _Days(NOON.replace(hour=21, minute=58))
    care = days.care(quiet="22:00-06:30")
    care.hold()
    assert days.pauses == []
    assert care.poll_s(600) == 119
    days.now += timedelta(seconds=care.poll_s(600) + 1)
    care.hold()
    assert (days.now.day, days.now.time()) == (11, time(6, 30))
    assert care.poll_s(600) == 600


@pytest.mark.parametrize("text", ["", "22-6", "22:00", "25:00-06:00", "22:00-22:00", "22:60-23:00"])
def test_quiet_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quiet hours are"):
        parse_quiet_hours(text)


def test_limits_of_rate_hold_beside_an_emulated_link() -> None:
    assert limited(None, None, None) is None
    assert limited(None, "64kbit", None) == LinkRates(64e3, math.inf, 0)
    assert limited("satellite", "1mbit", "1gbit") == LinkRates(1e6, 10e6, 0.6, 0.005)
    with pytest.raises(ValueError, match="not a rate"):
        limited(None, None, "fast")


@pytest.mark.parametrize("rates", [LinkRates(80e3, math.inf, 0), LinkRates(math.inf, 80e3, 0)])
def test_one_direction_is_slowed_and_the_other_is_not(
    rates: LinkRates, server: CuttingServer, make_transfer: MakeTransfer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    payload = Random(0).randbytes(50_000)
    server.payloads[digest_of(payload).hex()] = payload
    pauses: list[float] = []
    pacer = Pacer(rates, Random(0), clock=lambda: sum(pauses), sleep=pauses.append)
    transfer = make_transfer(server.address, backend=CountingBackend(pacer))
    before = sum(pauses)
    upload(transfer, "task01", payload, known=None, remember=lambda _: None)
    up_s = sum(pauses) - before
    download(transfer, digest_of(payload), len(payload), tmp_path_factory.mktemp("partial"))
    down_s = sum(pauses) - before - up_s
    slow, fast = (up_s, down_s) if rates.down_bps == math.inf else (down_s, up_s)
    assert slow >= 5
    assert fast < 1


def test_a_metered_link_has_a_budget_unless_another_is_named() -> None:
    assert JoinSettings(task="digits").budget is None
    assert JoinSettings(task="digits", metered=True).budget == 50_000_000
    assert JoinSettings(task="digits", metered=True, daily_bytes="2MB").budget == 2_000_000
