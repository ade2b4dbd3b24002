"""A run that stands says why."""

from __future__ import annotations

from thinwire.coordinator.runs.exchange import Exchange
from thinwire.coordinator.runs.policy import Policy
from thinwire.coordinator.runs.waiting import why_missed, why_pending, why_waiting

NAMES = ["ann", "bob", "zoe"]


def opened(*, same: bool = False) -> Exchange:
    exchange = Exchange.begin(Policy(3, 3, 2, same=same), 0, 1, 0, NAMES)
    exchange.offer(NAMES)
    return exchange


def test_a_run_that_has_not_begun_counts_who_is_there() -> None:
    assert why_pending(1, 0) == "1 client is needed to begin; none there"
    assert why_pending(3, 2) == "3 clients are needed to begin; 2 there"


def test_whoever_may_still_answer_is_shown_by_name_elsewhere() -> None:
    assert why_waiting("running", opened(), 4, {}, {}) is None
    for state in ("pending", "paused", "finished"):
        assert why_waiting(state, opened(), 4, {}, {}) is None  # type: ignore[arg-type]


def test_who_failed_and_who_is_missed_is_named() -> None:
    exchange = opened()
    exchange.accept(0, 1)
    for index in (1, 2):
        exchange.refuse(index)
    one, two = sorted(slot.client for slot in exchange.slots[1:])
    why = why_waiting("running", exchange, 4, {"ann": "no memory"}, {})
    said = f"; ann declined: no memory; refused: the answer of {one}, {two}"
    assert why == f"round 4: 1 of 2 answers; nobody who is there can be asked{said}"
    assert why_missed(exchange, 4, {"ann": "no memory"}) == f"round 4: 1 of 2 answers after 1 offers{said}"
    exchange = opened(same=True)
    for name in NAMES:
        exchange.lapse(name)
    assert (
        why_waiting("running", exchange, 4, {}, {}) == "round 4: 0 of 2 answers; waits for ann, bob, zoe to come back"
    )


def test_many_are_counted_and_words_are_cut() -> None:
    many = [f"client-{index:02}" for index in range(30)]
    exchange = Exchange.begin(Policy(30, 30, 30, same=True), 0, 1, 0, many)
    for name in many:
        exchange.lapse(name)
    why = why_waiting("running", exchange, 1, {}, {})
    assert why is not None
    assert "client-19 and 10 more to come back" in why
    assert len(why_missed(exchange, 1, dict.fromkeys(many, "x" * 300))) == 1000
