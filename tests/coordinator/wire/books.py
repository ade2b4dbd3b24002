"""Books that hold sums, for tests of what keeps them."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator

from thinwire.coordinator.wire.accounting import Account, Bill, Key
from thinwire.protocol.bytes import Bytes


class Sums:
    """See `Books`. `held`: all that was charged or recorded."""

    def __init__(self) -> None:
        self.held: defaultdict[Key, Bytes] = defaultdict(Bytes)

    def charge(self, account: Account, uplink: int, downlink: int, seconds: float) -> None:
        for key, value in account.split(uplink, downlink, seconds):
            self.record(key, value)

    def record(self, key: Key, value: Bytes) -> None:
        self.held[key] += value

    @contextlib.contextmanager
    def while_open(self, bill: Bill, uncharged: Callable[[], Bytes]) -> Iterator[None]:
        yield
