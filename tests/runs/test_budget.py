"""Budgets: what the next round may have, and who is left out of it, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from thinwire.coordinator.runs.budget import (
    Before,
    Lowered,
    Spent,
    beyond_budget,
    day_of,
    lower,
    month_of,
    why_left_out,
)
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.settings import RunSettings

LAST = Bytes(uplink_payload=8000, uplink_framing=200, downlink_payload=4000, downlink_framing=100)
"""Of four clients; up with 8 bits, down as it is."""


def sizes(least: int = 1) -> dict[int, tuple[int, int]]:
    """Up, each bit is worth as much as any other; down there is nothing to lower."""
    return {bits: (100 * bits, 70) for bits in range(least, 9)}


def before(spent: int = 0, lowered: Lowered | None = None, least: int = 1, final: int = 0) -> Before:
    return Before(spent, LAST, final, 4, lowered or Lowered(), sizes(least))


def run(**settings: Any) -> RunSettings:
    return RunSettings(cohort=4, rounds=10, **settings)


def test_a_budget_that_lasts_lowers_nothing() -> None:
    wanted = run(max_bytes=12_300 * 5, least_bits=1, least_cohort=1)
    assert lower(wanted, before(), 5) == Lowered()
    assert lower(run(), before(10**9), 5) == Lowered()


def test_bits_fall_to_the_most_that_lasts_and_then_the_cohort() -> None:
    # Of a round 4,300 bytes stay whatever the bits are, and each bit is worth 1,000.
    wanted = run(max_bytes=100_000, least_bits=2, least_cohort=2)
    assert lower(wanted, before(100_000 - 5 * 10_300, least=2), 5) == Lowered(bits=6)
    assert lower(wanted, before(100_000 - 5 * 10_299, least=2), 5) == Lowered(bits=5)
    assert lower(wanted, before(100_000 - 5 * 6_300, least=2), 5) == Lowered(bits=2)
    # A quarter of 6,300 for each client: three of them are paid for.
    assert lower(wanted, before(100_000 - 5 * 6_299, least=2), 5) == Lowered(2, 3)
    assert lower(wanted, before(99_999, least=2), 5) == Lowered(2, 2)
    assert lower(run(max_bytes=100_000), before(99_999, least=8), 5) == Lowered()
    # What an evaluation takes is not there for rounds.
    assert lower(wanted, before(100_000 - 5 * 10_300, least=2, final=5), 5) == Lowered(bits=5)
    # Other bits want another plan, of 100 bytes for each client here.
    dearer = Before(100_000 - 5 * 10_300, LAST, 0, 4, Lowered(), sizes(2), plan=100)
    assert (dearer.wire(None), dearer.wire(6)) == (12_300, 10_700)
    assert lower(wanted, dearer, 5) == Lowered(bits=5)


def test_what_was_lowered_rises_again_where_the_rest_lasts() -> None:
    less = Bytes(uplink_payload=2000, uplink_framing=200, downlink_payload=2000, downlink_framing=50)
    wanted = run(max_bytes=100_000, least_bits=1, least_cohort=1)
    halved = Before(0, less, 0, 2, Lowered(4, 2), sizes())
    assert halved.wire(8) == 6250
    assert lower(wanted, halved, 8) == Lowered(), "four clients with eight bits: 12,500 a round"
    assert lower(wanted, halved, 9) == Lowered(bits=6), "2,250 and 500 for each bit, twice: 11,111 at most"


def test_a_round_of_one_client_may_have_a_bound() -> None:
    wanted = run(max_bytes_per_round=2000, least_bits=1)
    assert lower(wanted, before(), 5) == Lowered(bits=3)
    assert beyond_budget(wanted, before(), Lowered(bits=3)) is None
    tight = run(max_bytes_per_round=1000, least_bits=1)
    assert lower(tight, before(), 5) == Lowered(bits=1)
    assert beyond_budget(tight, before(), Lowered(bits=1)) == (
        "max-bytes-per-round: a round takes about 1325 bytes of each client, and no more than 1000 were to be spent"
    )


def test_no_round_begins_that_would_pass_the_budget_even_so() -> None:
    wanted = run(max_bytes=100_000, least_bits=2, least_cohort=2)
    lowest = Lowered(2, 2)
    assert beyond_budget(wanted, before(100_000 - 3150), lowest) is None
    assert beyond_budget(wanted, before(100_000 - 3149), lowest) == (
        "max-bytes: 96851 of 100000 bytes were spent when another round would have taken about 3150"
    )
    assert beyond_budget(wanted, before(100_000 - 3150, final=1), lowest) is not None


def test_whoever_would_pass_a_budget_of_its_own_is_left_out() -> None:
    wanted = run(max_bytes_per_round=500, max_bytes_per_day=1000, max_bytes_per_month=10_000)
    spent = Spent(
        round={"again": 450}, day={"today": 901, "just": 900, "all": 1000}, month={"month": 9950, "all": 1000},
        like={"dear": 300, "one": 50, "two": 50, "three": 0},
    )  # fmt: skip
    assert [spent.needs(name) for name in ("dear", "one", "new")] == [300, 133, 133]
    cheap = Spent(spent.round, spent.day, spent.month, {"one": 100, "two": 100})
    said = {name: why_left_out(wanted, cheap, name) for name in ("again", "today", "just", "month", "all", "new")}
    assert said == {
        "again": "max-bytes-per-round: 450 B of 500 B are spent, and its part takes 100 B",
        "today": "max-bytes-per-day: 901 B of 1.00 kB are spent, and its part takes 100 B",
        "just": None,
        "month": "max-bytes-per-month: 9.95 kB of 10.0 kB are spent, and its part takes 100 B",
        "all": "max-bytes-per-day: 1.00 kB of 1.00 kB are spent",
        "new": None,
    }
    assert why_left_out(run(), spent, "all") is None


def test_days_and_months_are_those_of_utc() -> None:
    assert [day_of(86_399.9), day_of(86_400.0)] == [0, 1]
    assert month_of(1_709_251_199.0) == day_of(1_706_745_600.0), "2024-02-29 23:59:59: since 2024-02-01"
    assert month_of(1_709_251_200.0) == day_of(1_709_251_200.0), "2024-03-01"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"least_cohort": 2}, "least-cohort"),
        ({"least_cohort": 5, "max_bytes": 1}, "least-cohort"),
        ({"least_bits": 2}, "least-bits"),
    ],
)
def test_bounds_without_a_budget_mean_nothing(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        run(**settings)
