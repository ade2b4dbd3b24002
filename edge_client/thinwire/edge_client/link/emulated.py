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
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from thinwire.machine.link_rates import LEAST_TRIP_S, LinkRates, parse_link
from thinwire.machine.quantities import parse_rate

_CUTS: Final = 1 / 50
_LARGEST_PIECE: Final = 1 << 16
_LEAST_WINDOW: Final = 4096


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
            trips = takes / max(self.rates.rtt_s, LEAST_TRIP_S)
            chance = 1 - (1 - self.rates.loss) ** trips
            if self._rng.random() < chance:
                self._free_at[direction] += self.rates.stall_s
                cut = self._rng.random() < _CUTS
        self._sleep(self._free_at[direction] - now)
        return cut
