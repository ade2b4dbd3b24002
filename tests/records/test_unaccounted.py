"""Laws of what the ledger lacks: what a client's kernel has counted and nobody has charged is a row, once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records.conftest import Records
from thinwire.coordinator.records.bills import Bills
from thinwire.coordinator.records.clients import Clients
from thinwire.coordinator.records.invites import Invites
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.links import MOST_BYTES, SETTLED_S
from thinwire.coordinator.wire.accounting import Account, Bill
from thinwire.protocol.bytes import Bytes

counts = st.integers(0, 10**6)
steps = st.tuples(
    st.sampled_from(["charge", "forget", "answer", "flush", "refuse", "other", "restart"]), counts, counts
)


class Clock:
    """A clock that goes when it is told."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


def unaccounted(records: Records, ledger: Ledger) -> tuple[int, int]:
    records.run(ledger.flush())
    rows = records.run(Bills(records.database).rows(None))
    found = Bytes.sum(value for (_, kind), value in rows.items() if kind == "unaccounted")
    assert found.payload == found.requests == 0
    return found.uplink, found.downlink


@settings(max_examples=40, deadline=None)
@given(said=st.lists(steps, max_size=14))
def test_the_ledger_is_never_less_than_what_a_client_said_and_never_adds_twice(
    opened: Records, said: list[tuple[str, int, int]]
) -> None:
    """Bytes cross, and are charged or forgotten; answers say what has crossed by then. What another process charges
    before the comparison may hide what is lacking until the next answer.
    """
    opened.empty()
    clock = Clock()
    ledger, other = Ledger(opened.database, clock), Ledger(opened.database, clock)
    crossed, forgotten = [0, 0], [0, 0]
    for step, up, down in said:
        if step in ("charge", "other", "forget"):
            crossed = [crossed[0] + up, crossed[1] + down]
        match step:
            case "charge":
                ledger.record(("runaaa", "ann", 0, "answer"), Bytes(1, up, 0, down, 0))
            case "other":
                other.record(("runaaa", "ann", 0, "payload"), Bytes(1, up, 0, down, 0))
                opened.run(other.flush())
            case "forget":
                forgotten = [forgotten[0] + up, forgotten[1] + down]
            case "answer":
                ledger.report_link("ann", *crossed)
                clock.now += SETTLED_S
            case "flush":
                opened.run(ledger.flush())
            case "refuse":
                with opened.refusing("links"):
                    opened.both(ledger.flush())
            case "restart":
                opened.run(ledger.flush())
                ledger = Ledger(opened.database, clock)
        if step != "answer":
            found = unaccounted(opened, ledger)
            assert found[0] <= forgotten[0]
            assert found[1] <= forgotten[1]
    for _ in range(2):  # what was said before is compared first
        ledger.report_link("ann", *crossed)
        clock.now += SETTLED_S
        opened.run(ledger.flush())
    assert list(unaccounted(opened, ledger)) == forgotten


def test_the_request_that_says_so_is_left_out_and_what_is_still_open_counts(records: Records) -> None:
    """Both have been charged in part: what was said, was said before the one, and has seen the other."""
    clock = Clock()
    ledger = Ledger(records.database, clock)
    old, new = (Bill(ledger, Account(kind="answer", client="ann", run="runaaa")) for _ in range(2))
    with ledger.while_open(old, lambda: Bytes(0, 0, 300, 0, 50)), ledger.while_open(new, Bytes):
        old.uplink, new.uplink = 1000, 5000
        old.charge(0)
        new.charge(0)
        ledger.report_link("ann", 1300 + 7, 50, new.account)
    ledger.record(("runaaa", "ann", None, "answer"), Bytes(0, 300, 0, 50))
    records.run(ledger.flush())
    assert unaccounted(records, ledger) == (0, 0)  # not yet: another process may still store what it has charged
    clock.now += SETTLED_S
    records.run(ledger.flush())
    assert unaccounted(records, ledger) == (7, 0)


def test_a_client_that_begins_anew_counts_anew(records: Records) -> None:
    """Under the name of one that was revoked, with a folder of its own."""
    clock = Clock()
    ledger, clients, invites = Ledger(records.database, clock), Clients(records.database), Invites(records.database)
    for code in (b"a" * 32, b"b" * 32):
        records.run(invites.issue(code, "default", "client", 1, None))
        records.run(clients.enrol("ann", code, code, clock.now, 10))
        ledger.record(("runaaa", "ann", 0, "answer"), Bytes(1, 1000))
        ledger.report_link("ann", 1005, 0)
        clock.now += SETTLED_S
        records.run(ledger.flush())
        records.run(clients.revoke("ann", clock.now, invite=False))
    assert unaccounted(records, ledger) == (10, 0)


def test_what_no_link_carries_is_not_believed(records: Records) -> None:
    clock = Clock()
    ledger = Ledger(records.database, clock)
    ledger.record(("runaaa", "ann", 0, "answer"), Bytes(1, 1000))
    ledger.report_link("ann", (1 << 63) - 1, MOST_BYTES)
    clock.now += SETTLED_S
    records.run(ledger.flush())
    assert unaccounted(records, ledger) == (0, 0)


def test_it_belongs_to_no_run_and_is_shown_beside_its_client(records: Records) -> None:
    """So that no budget rests on what a client says; and what the kernel counted stands beside the transport alone."""
    clock = Clock()
    ledger = Ledger(records.database, clock)
    ledger.record(("runaaa", "ann", 0, "answer"), Bytes(1, 1000))
    ledger.report_link("ann", 1500, 20)
    clock.now += SETTLED_S
    records.run(ledger.flush())
    assert records.run(ledger.exchanges("runaaa")) == {0: Bytes(1, 1000)}
    (link,) = records.run(ledger.links("runaaa"))
    assert (link.sent_bytes, link.uplink_bytes, link.received_bytes, link.downlink_bytes) == (1500, 1000, 20, 0)
    shown = {row.kind: row.uplink_framing_bytes for row in records.run(ledger.kind_sums("runaaa"))}
    assert shown["unaccounted"] == 500
