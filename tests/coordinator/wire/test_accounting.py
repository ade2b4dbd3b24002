"""Laws of accounts: what a request carried is split among those it belongs to, and nothing is invented."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thinwire.coordinator.wire.accounting import Account, Share
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LEDGER_KINDS, LedgerKind

runs = st.sampled_from(["", "runaaa", "runbbb"])
kinds: st.SearchStrategy[LedgerKind] = st.sampled_from(LEDGER_KINDS)
counts = st.integers(0, 10**6)
shares = st.builds(Share, kind=kinds, run=runs, exchange=st.integers(0, 4), payload=counts, framing=counts)
accounts = st.builds(
    Account, kind=kinds, run=runs, client=st.sampled_from(["", "ann"]), exchange=st.none() | st.integers(0, 4),
    uplink_payload=counts, downlink_payload=counts, resumed=counts, also=st.lists(shares, max_size=2),
)  # fmt: skip


@given(accounts, counts, counts)
def test_payload_never_exceeds_what_was_on_the_wire(account: Account, uplink: int, downlink: int) -> None:
    parts = account.split(uplink, downlink, 1.0)
    total = Bytes.sum(value for _, value in parts)
    assert (total.uplink, total.downlink, total.requests, total.seconds) == (uplink, downlink, 1, 1.0)
    for _, value in parts:
        assert 0 <= value.uplink_payload <= min(uplink, account.uplink_payload)
        assert 0 <= value.downlink <= downlink
        assert min(value.uplink_framing, value.downlink_payload, value.downlink_framing) >= 0


def test_a_task_on_a_verdict_belongs_to_its_own_exchange() -> None:
    account = Account(kind="answer", run="runaaa", client="ann", exchange=3, uplink_payload=900)
    account.also.append(Share("register", "runaaa", exchange=4, payload=500, framing=60))
    assert dict(account.split(1000, 700, 0.5)) == {
        ("runaaa", "ann", 3, "answer"): Bytes(1, 900, 100, 0, 140, 0, 0.5),
        ("runaaa", "ann", 4, "register"): Bytes(0, 0, 0, 500, 60),
    }
