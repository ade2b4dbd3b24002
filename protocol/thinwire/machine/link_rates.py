"""Links by their figures, as people name them: `4g`, `64kbit/256kbit,300ms,1%`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .quantities import parse_rate

LEAST_TRIP_S: Final = 0.01
"""A round trip is not taken to be shorter where the chance of a loss is counted by round trips."""


@dataclass(frozen=True, slots=True)
class LinkRates:
    """`up_bps`, `down_bps`: bits per second; `rtt_s`: seconds; `loss`: a probability."""

    up_bps: float
    down_bps: float
    rtt_s: float
    loss: float = 0.0

    @property
    def stall_s(self) -> float:
        """A retransmission timeout: TCP's least one second, or twice the round trip."""
        return max(1.0, 2 * self.rtt_s)

    @property
    def slowed(self) -> LinkRates:
        """A link without loss that is as slow in the mean: one stall for each loss, one chance of it per round trip."""
        longer = 1 + self.loss * self.stall_s / max(self.rtt_s, LEAST_TRIP_S)
        return LinkRates(self.up_bps / longer, self.down_bps / longer, self.rtt_s)


# Typical of what users meet, not of what standards promise.
PRESETS: Final[Mapping[str, LinkRates]] = {
    "4g": LinkRates(10e6, 30e6, 0.05, 0.001),
    "3g": LinkRates(0.4e6, 1.6e6, 0.15, 0.005),
    "nb-iot": LinkRates(20e3, 25e3, 1.5, 0.01),
    "satellite": LinkRates(2e6, 10e6, 0.6, 0.005),
}


def parse_link(text: str) -> LinkRates:
    """The link of `4g`, `3g`, `nb-iot`, `satellite`, or `RATE,RTT,LOSS` such as `64kbit/256kbit,300ms,1%` (up/down).

    Raises: `ValueError`.
    """
    if text in PRESETS:
        return PRESETS[text]
    rate, _, rest = text.partition(",")
    rtt, _, loss = rest.partition(",")
    up, _, down = rate.partition("/")
    try:
        return LinkRates(parse_rate(up), parse_rate(down or up), _seconds(rtt or "0"), _probability(loss or "0"))
    except ValueError as error:
        known = ", ".join(PRESETS)
        raise ValueError(f"no link is {text!r} ({error}): {known}, or RATE,RTT,LOSS as in 64kbit,300ms,1%") from None


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|)", text.strip().lower(), re.ASCII)
    if match is None or (not match[2] and float(match[1])):
        raise ValueError(f"{text!r} is not a time: write, for example, 300ms or 1.5s")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def _probability(text: str) -> float:
    percent = text.strip().endswith("%")
    value = float(text.strip().rstrip("%")) / (100 if percent else 1)
    if not 0 <= value < 1:
        raise ValueError(f"{text!r} is not a probability")
    return value
