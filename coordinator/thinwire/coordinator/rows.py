"""What the driver writes: the statements that open, offer, renew, close and finish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, update

from thinwire.protocol.messages import ExchangeMetrics

from . import tables
from .exchange import Slot
from .runs import OpenExchange, Run
from .store import Statement


def opening(run: Run, opened: OpenExchange) -> Statement:
    """The exchange's row. Written again where a crash came between it and its first task."""
    task = opened.task
    row = {
        "run": run.id, "exchange": opened.index, "round": task.round, "step": task.step, "kind": task.kind,
        "plan": opened.plan, "parts": opened.broadcast.to_plain(), "cohort": task.cohort, "offers": 1, "seconds": 0.0,
        "left_s": opened.exchange.policy.deadline_s, "closed": False, "answers": 0, "metrics": {},
    }  # fmt: skip
    return insert(tables.exchanges).prefix_with("OR REPLACE"), [row]


def asking(run: Run, opened: OpenExchange, slots: Sequence[Slot]) -> Statement:
    """One row for each new task."""
    rows = [
        {
            "id": opened.id_of(run.id, slot), "run": run.id, "exchange": opened.index, "slot": slot.index,
            "offer": slot.offer, "client": slot.client, "state": "open", "examples": 0,
        }
        for slot in slots
    ]  # fmt: skip
    return insert(tables.tasks).prefix_with("OR REPLACE"), rows


def renewing(run: Run, opened: OpenExchange, late: Sequence[str]) -> list[Statement]:
    """The next offer, and the tasks that are late with it."""
    tasks, exchanges = tables.tasks, tables.exchanges
    mine = (exchanges.c.run == run.id) & (exchanges.c.exchange == opened.index)
    renewed = {"offers": opened.exchange.offers, "left_s": opened.exchange.policy.deadline_s}
    return [
        *(update(tasks).where(tasks.c.id == task).values(state="late") for task in late),
        update(exchanges).where(mine).values(**renewed),
    ]


def closing(run: Run, result: ExchangeMetrics, round_: int, step: int) -> list[Statement]:
    """The closed exchange, and where the run stands behind it."""
    tasks, exchanges, runs = tables.tasks, tables.exchanges, tables.runs
    unanswered = (tasks.c.run == run.id) & (tasks.c.exchange == result.exchange) & (tasks.c.state == "open")
    mine = (exchanges.c.run == run.id) & (exchanges.c.exchange == result.exchange)
    figures = result.model_dump(include={"seconds", "answers", "metrics", "offers"})
    following = {"exchange": result.exchange + 1, "round": round_, "step": step, "reason": None}
    return [
        update(tasks).where(unanswered).values(state="late"),
        update(exchanges).where(mine).values(closed=True, **figures),
        update(runs).where(runs.c.id == run.id).values(**following),
    ]


def finishing(run: Run, values: dict[str, Any]) -> list[Statement]:
    """The run's last row; tasks that are still open are late."""
    tasks, runs = tables.tasks, tables.runs
    unanswered = (tasks.c.run == run.id) & (tasks.c.state == "open")
    return [
        update(runs).where(runs.c.id == run.id).values(state="finished", command=None, **values),
        update(tasks).where(unanswered).values(state="late"),
    ]
