"""Where a run stands gives one move; time is an argument."""

from __future__ import annotations

from dataclasses import replace

import pytest

from thinwire.coordinator.runs.exchange import Exchange
from thinwire.coordinator.runs.policy import Policy
from thinwire.coordinator.runs.rows import RunCommand
from thinwire.coordinator.runs.standing import LOOK_S, SOONEST_S, Move, People, Standing, next_move

NAMES = ["client-0", "client-1", "client-2"]


def opened(*, cohort: int = 2, quorum: int = 2, deadline_s: float | None = None, answers: int = 0) -> Exchange:
    """An exchange opened at second 100 that has asked its cohort."""
    exchange = Exchange.begin(Policy(cohort, cohort, quorum, 2, deadline_s), 0, 1, 100.0)
    exchange.offer(NAMES)
    for index in range(answers):
        exchange.accept(index, 1)
    return exchange


def running(exchange: Exchange | None) -> Standing:
    return Standing("running", exchange=exchange)


def move(standing: Standing, now: float = 100.0) -> Move:
    return next_move(standing, now)[0]


def test_a_pending_run_counts_who_is_there_and_begins_with_enough() -> None:
    standing = Standing("pending", needed=2)
    assert move(standing) is Move.COUNT_PRESENT
    assert move(replace(standing, present=1)) is Move.WAIT
    assert move(replace(standing, present=2)) is Move.BEGIN


def test_a_running_run_opens_asks_waits_and_closes() -> None:
    assert move(running(None)) is Move.OPEN
    assert move(replace(running(opened()), newcomers=True)) is Move.OFFER
    assert next_move(running(opened()), 100.0) == (Move.WAIT, LOOK_S)
    assert move(running(opened(answers=2))) is Move.CLOSE


def test_nothing_closes_while_an_answer_is_being_added() -> None:
    assert move(replace(running(opened(answers=2)), adding=True)) is Move.WAIT
    assert move(replace(running(opened(deadline_s=5)), adding=True), 106.0) is Move.WAIT


@pytest.mark.parametrize(("answers", "expected"), [(0, Move.MISS), (1, Move.CLOSE)])
def test_at_the_deadline_the_quorum_decides(answers: int, expected: Move) -> None:
    exchange = opened(quorum=1, deadline_s=5, answers=answers)
    assert next_move(running(exchange), 103.0) == (Move.WAIT, 2.0)
    assert next_move(running(exchange), 104.9999) == (Move.WAIT, SOONEST_S)
    assert move(running(exchange), 105.0) is expected


def test_where_nobody_is_asked_any_more_it_matters_who_is_there() -> None:
    exchange = opened()
    exchange.refuse(0)
    exchange.lose(exchange.slots[1].client)
    standing = running(exchange)
    assert move(standing) is Move.LOOK_FOR_PEOPLE
    assert move(replace(standing, people=People(askable=True, reachable=False))) is Move.WAIT
    assert move(replace(standing, people=People(askable=False, reachable=True))) is Move.WAIT
    assert move(replace(standing, people=People(askable=False, reachable=False))) is Move.MISS


@pytest.mark.parametrize(
    ("command", "state", "has_exchange", "adding", "expected"),
    [
        ("pause", "running", True, False, Move.WAIT),
        ("pause", "running", False, False, Move.OBEY),
        ("pause-drop", "running", True, False, Move.OBEY),
        ("pause-drop", "running", True, True, Move.WAIT),
        ("stop", "running", True, False, Move.WAIT),
        ("stop", "paused", True, False, Move.OBEY),
        ("stop-drop", "running", True, False, Move.OBEY),
        ("stop", "pending", False, False, Move.OBEY),
        ("resume", "paused", True, True, Move.OBEY),
        ("resume", "running", True, False, Move.OBEY),
        (None, "paused", True, False, Move.WAIT),
    ],
)
def test_commands_wait_for_the_open_exchange_unless_it_is_dropped_or_stands_still(
    command: RunCommand | None, state: str, has_exchange: bool, adding: bool, expected: Move
) -> None:
    exchange = opened() if has_exchange else None
    standing = Standing(state, command, exchange=exchange, adding=adding)  # type: ignore[arg-type]
    assert move(standing) is expected


def test_a_resumed_run_whose_offers_or_time_are_used_up_is_offered_again() -> None:
    exchange = opened(deadline_s=5)
    assert move(replace(running(exchange), resumed=True), 101.0) is Move.WAIT
    assert move(replace(running(exchange), resumed=True), 105.0) is Move.OFFER_AGAIN
    exchange.again(105.0)
    assert move(replace(running(exchange), resumed=True), 105.0) is Move.OFFER_AGAIN
