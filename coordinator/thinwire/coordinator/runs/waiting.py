"""Why a run stands where it does, in words for its operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from thinwire.protocol.fields import RunState

from .exchange import Exchange

LONGEST: Final = 1000
_NAMED: Final = 20


def why_pending(needed: int, present: int) -> str:
    """Of a run that has not begun: so many clients are there of those it needs."""
    return f"{needed} {'client is' if needed == 1 else 'clients are'} needed to begin; {present or 'none'} there"


def why_waiting(
    state: RunState, exchange: Exchange, round_: int, declined: Mapping[str, str], left_out: Mapping[str, str]
) -> str | None:
    """Of a run whose exchange waits; None where clients have been asked and may answer, who are shown by name, or where
    it does not go on at all. `declined`: client -> why it gave its task up; `left_out`: why a budget keeps it out.
    """
    if state != "running" or exchange.closed or exchange.count("open"):
        return None
    if exchange.count("accepted") >= exchange.policy.cohort:
        return None
    waits = (
        f"waits for {_names(exchange.absent)} to come back" if exchange.absent else "nobody who is there can be asked"
    )
    return f"{_so_far(exchange, round_)}; {waits}{_who_failed(exchange, declined)}{_out(left_out)}"[:LONGEST]


def why_missed(exchange: Exchange, round_: int, declined: Mapping[str, str]) -> str:
    """Of an exchange that has been offered as often as it may."""
    return f"{_so_far(exchange, round_)} after {exchange.offers} offers{_who_failed(exchange, declined)}"[:LONGEST]


def _so_far(exchange: Exchange, round_: int) -> str:
    return f"round {round_}: {exchange.count('accepted')} of {exchange.policy.quorum} answers"


def _who_failed(exchange: Exchange, declined: Mapping[str, str]) -> str:
    refused = sorted({slot.client for slot in exchange.slots if slot.state == "refused"})
    told = "".join(f"; {name} declined: {detail}" for name, detail in sorted(declined.items()))
    return told + (f"; refused: the answer of {_names(refused)}" if refused else "")


def _out(left_out: Mapping[str, str]) -> str:
    return "".join(f"; {name} is left out: {why}" for name, why in sorted(left_out.items())[:_NAMED])


def _names(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
