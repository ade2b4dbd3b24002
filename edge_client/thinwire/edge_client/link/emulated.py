"""Emulated links: the client's own socket traffic made as slow as a 4G modem, a satellite or NB-IoT would make it.

What it does: one budget of bytes per second in each direction, shared by all connections; one round trip of waiting for
each turn from sending to receiving, and for opening a connection. What it cannot do: lose packets, for below it TCP
repairs them unseen. LOSS is therefore the chance per round trip of a stall of one retransmission timeout, and, fifty
times rarer, of a cut connection. Bytes are never changed, so every count stays true; times are those of such a link
within that model.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from thinwire.machine.quantities import parse_rate

_CUTS: Final = 1 / 50
_LARGEST_PIECE: Final = 1 << 16
_LEAST_WINDOW: Final = 4096


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


def limited(link: str | None, max_uplink: str | None, max_downlink: str | None) -> LinkRates | None:
    """The emulated link, if one is wanted, no faster than these rates in either direction. Raises: `ValueError`."""
    up, down = (math.inf if text is None else parse_rate(text) for text in (max_uplink, max_downlink))
    if link is None:
        return None if up == down == math.inf else LinkRates(up, down, 0.0)
    rates = parse_link(link)
    return replace(rates, up_bps=min(rates.up_bps, up), down_bps=min(rates.down_bps, down))


class Pacer:
    """When bytes may pass. One for all connections of a client."""

    def __init__(
        self,
        rates: LinkRates,
        rng: random.Random,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rates = rates
        self._rng = rng
        self._clock = clock
        self._sleep = sleep
        self._free_at = {"up": 0.0, "down": 0.0}

    @property
    def piece(self) -> int:
        """How much to send at once: a twentieth of a second, so that a transfer is seen to move."""
        return max(256, int(min(self.rates.up_bps / 8 / 20, _LARGEST_PIECE)))

    @property
    def window(self) -> int | None:
        """How much the kernel should take in ahead of us: the peer is to feel the rate, not only we; None: its own
        choice.
        """
        wanted = self.rates.down_bps / 8 / 4
        return max(_LEAST_WINDOW, int(wanted)) if wanted < _LARGEST_PIECE else None

    def sent(self, size: int) -> bool:
        """Waits until these bytes have left; True: the connection is cut."""
        return self._pass("up", size, self.rates.up_bps)

    def received(self, size: int) -> bool:
        """Waits until these bytes have arrived; True: the connection is cut."""
        return self._pass("down", size, self.rates.down_bps)

    def turn(self) -> None:
        """Waits one round trip."""
        self._sleep(self.rates.rtt_s)

    def _pass(self, direction: str, size: int, rate_bps: float) -> bool:
        now = self._clock()
        takes = size * 8 / rate_bps
        self._free_at[direction] = max(now, self._free_at[direction]) + takes
        cut = False
        if self.rates.loss:
            trips = takes / max(self.rates.rtt_s, 0.01)
            chance = 1 - (1 - self.rates.loss) ** trips
            if self._rng.random() < chance:
                self._free_at[direction] += self.rates.stall_s
                cut = self._rng.random() < _CUTS
        self._sleep(self._free_at[direction] - now)
        return cut
