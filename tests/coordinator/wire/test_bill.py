"""Laws of a bill: charged as often as one likes, its rows say what crossed, and none is ever negative."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from thinwire.coordinator.wire.accounting import Account, Bill, Key, Share
from thinwire.protocol.bytes import Bytes


class Rows:
    """Books that are sums, as those of the ledger."""

    def __init__(self) -> None:
        self.rows: defaultdict[Key, Bytes] = defaultdict(Bytes)

    def record(self, key: Key, value: Bytes) -> None:
        self.rows[key] += value
        now = self.rows[key]
        assert min(now.requests, now.uplink_payload, now.uplink_framing, now.resumed, now.downlink_payload) >= 0
        assert now.downlink_framing >= 0

    @contextlib.contextmanager
    def while_open(self, bill: Bill, uncharged: Callable[[], Bytes]) -> Iterator[None]:
        yield


counts = st.integers(0, 10**6)
shares = st.builds(
    Share, kind=st.just("register"), run=st.just("runbbb"), exchange=counts, payload=counts, framing=counts
)
steps = st.tuples(counts, counts, counts, counts, counts, st.sampled_from(["", "ann"]))


@given(st.lists(steps, max_size=6), st.lists(shares, max_size=2), counts)
def test_rows_say_what_crossed_however_often_they_were_wrong(
    moves: list[tuple[int, int, int, int, int, str]], also: list[Share], missing: int
) -> None:
    books, account = Rows(), Account(kind="payload", run="runaaa", also=also)
    bill = Bill(books, account)
    for up, down, payload_up, payload_down, unsent, client in moves:
        bill.uplink += up
        bill.downlink += down
        account.uplink_payload, account.downlink_payload, account.client = payload_up, payload_down, client
        bill.charge(unsent)
        total = Bytes.sum(books.rows.values())
        assert (total.requests, total.uplink, total.downlink) == (0, bill.uplink, max(0, bill.downlink - unsent))
    bill.end(2.0)
    assert Bytes.sum(books.rows.values()).downlink == bill.downlink
    bill.charge(missing)
    total = Bytes.sum(books.rows.values())
    assert (total.requests, total.seconds, total.uplink) == (1, 2.0, bill.uplink)
    assert total.downlink == max(0, bill.downlink - missing)
    assert bill.missing == bill.downlink - total.downlink


def test_what_did_not_cross_is_payload_before_it_is_framing() -> None:
    """Heads come first."""
    books = Rows()
    bill = Bill(books, Account(kind="payload", client="ann", downlink_payload=1000))
    bill.uplink, bill.downlink = 100, 1200
    bill.end(1.0)
    bill.charge(900)
    assert books.rows == {("", "ann", None, "payload"): Bytes(1, 0, 100, 100, 200, 0, 1.0)}
