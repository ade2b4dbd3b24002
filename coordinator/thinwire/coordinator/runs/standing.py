"""Where a run stands, and what follows from it: one look gives one move.

Pure: whoever leads the run looks, does what the move says, and looks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from thinwire.protocol.fields import RunState

from .exchange import Exchange
from .rows import RunCommand

LOOK_S: Final = 30.0
"""Nothing else happening, a run is looked at this often."""
SOONEST_S: Final = 0.01


class Move(Enum):
    """What the leader does next."""

    OBEY = "carry out the operator's command"
    COUNT_PRESENT = "find out how many clients are there for the run"
    BEGIN = "the run's clients are there: it is running"
    OPEN = "open the next exchange, or finish"
    OFFER = "ask further clients"
    OFFER_AGAIN = "offer the open exchange again"
    LOOK_FOR_PEOPLE = "find out whether anybody could still be asked, or come"
    CLOSE = "the exchange has its answers: advance"
    MISS = "the exchange has failed: go on without, offer it again, or pause"
    WAIT = "wait for something to happen"


@dataclass(frozen=True, slots=True)
class People:
    """`askable`: a client that is present may still be asked; `reachable`: one may that could ever come."""

    askable: bool
    reachable: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """`command`: of the operator, not yet carried out. `resumed`: it has
    just been told to go on. `present`: how many clients are there, None where nobody has looked; `needed`: how many it
    waits for before it begins. `adding`: answers are being added to the sum. `newcomers`: there are clients to
    consider, or slots whose clients have not been told. `people`: None where nobody has looked.
    """

    state: RunState
    command: RunCommand | None = None
    resumed: bool = False
    present: int | None = None
    needed: int = 1
    exchange: Exchange | None = None
    adding: bool = False
    newcomers: bool = False
    people: People | None = None


def next_move(standing: Standing, now: float) -> tuple[Move, float]:
    """The move, and for `WAIT` how many seconds at most; `now`: monotonic seconds."""
    exchange = standing.exchange
    if _obeys_now(standing):
        # The last addition wakes the leader.
        return (Move.WAIT, LOOK_S) if standing.adding and standing.command != "resume" else (Move.OBEY, 0.0)
    if standing.state in ("paused", "finished"):
        return Move.WAIT, LOOK_S
    if standing.state == "pending":
        if standing.present is None:
            return Move.COUNT_PRESENT, 0.0
        return (Move.WAIT, LOOK_S) if standing.present < standing.needed else (Move.BEGIN, 0.0)
    if exchange is None:
        return Move.OPEN, 0.0
    if standing.resumed and (
        exchange.offers >= exchange.policy.max_offers or (exchange.due_at is not None and exchange.due_at <= now)
    ):
        return Move.OFFER_AGAIN, 0.0
    if standing.newcomers:
        return Move.OFFER, 0.0
    return _due(standing, exchange, now)


def _obeys_now(standing: Standing) -> bool:
    """Pause and stop wait for the open exchange, unless it is dropped or stands still."""
    at_once = standing.command in ("resume", "pause-drop", "stop-drop")
    return standing.command is not None and (at_once or standing.exchange is None or standing.state == "paused")


def _due(standing: Standing, exchange: Exchange, now: float) -> tuple[Move, float]:
    people = standing.people
    if people is None and exchange.depends_on_people(now):
        return Move.LOOK_FOR_PEOPLE, 0.0
    people = people or People(askable=False, reachable=False)
    match exchange.due(now, askable=people.askable, reachable=people.reachable):
        case "wait":
            left_s = LOOK_S if exchange.due_at is None else exchange.due_at - now
            return Move.WAIT, max(SOONEST_S, min(LOOK_S, left_s))
        case _ if standing.adding:
            return Move.WAIT, LOOK_S  # the last addition wakes the leader
        case "close":
            return Move.CLOSE, 0.0
        case _:
            return Move.MISS, 0.0
