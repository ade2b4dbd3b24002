"""Laws of the ledger: no byte is lost, invented or counted twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thinwire.coordinator.ledger import Ledger
from thinwire.coordinator.wire.accounting import Account, Key, Share
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LEDGER_KINDS, LedgerKind

runs = st.sampled_from(["", "runaaa", "runbbb"])
clients = st.sampled_from(["", "ann", "bob"])
exchanges = st.one_of(st.none(), st.integers(0, 4))
kinds: st.SearchStrategy[LedgerKind] = st.sampled_from(LEDGER_KINDS)
counts = st.integers(0, 10**6)
shares = st.builds(
    Share, kind=kinds, run=runs, exchange=st.integers(0, 4),
    payload=counts, framing=counts,
)  # fmt: skip
accounts = st.builds(
    Account, kind=kinds, run=runs, client=clients, exchange=exchanges,
    uplink_payload=counts, downlink_payload=counts, resumed=counts, also=st.lists(shares, max_size=2),
)  # fmt: skip
charges = st.lists(st.tuples(accounts, counts, counts), max_size=20)


def _charged(all_of_them: list[tuple[Account, int, int]]) -> Ledger:
    ledger = Ledger()
    for account, uplink, downlink in all_of_them:
        ledger.charge(account, uplink, downlink, seconds=1.0)
    return ledger


Rows = list[tuple[Key, Bytes]]


def _sum(rows: Rows) -> Bytes:
    return Bytes.sum(value for _, value in rows)


def _by_key(rows: Rows) -> dict[Key, Bytes]:
    return {key: _sum([row for row in rows if row[0] == key]) for key, _ in rows}


@given(charges)
def test_what_is_charged_is_what_the_rows_hold(done: list[tuple[Account, int, int]]) -> None:
    rows = _charged(done).drain()
    total = _sum(rows)
    assert (total.uplink, total.downlink) == (sum(up for _, up, _ in done), sum(down for _, _, down in done))
    assert total.requests == len(done)


@given(accounts, counts, counts)
def test_payload_never_exceeds_what_was_on_the_wire(account: Account, uplink: int, downlink: int) -> None:
    parts = account.split(uplink, downlink, 1.0)
    total = _sum(parts)
    assert (total.uplink, total.downlink, total.requests, total.seconds) == (uplink, downlink, 1, 1.0)
    for _, value in parts:
        assert 0 <= value.uplink_payload <= min(uplink, account.uplink_payload)
        assert 0 <= value.downlink <= downlink
        assert min(value.uplink_framing, value.downlink_payload, value.downlink_framing) >= 0


@given(charges, charges)
def test_stored_differences_give_the_same_ledger_again(
    first: list[tuple[Account, int, int]], second: list[tuple[Account, int, int]]
) -> None:
    ledger = _charged(first)
    stored = ledger.drain()
    for account, uplink, downlink in second:
        ledger.charge(account, uplink, downlink, seconds=1.0)
    stored += ledger.drain()
    again = Ledger()
    again.load(stored)
    assert again.drain() == []
    for run in ("", "runaaa", "runbbb"):
        assert again.rows(run, {}) == ledger.rows(run, {})
        assert again.run(run) == ledger.run(run)
    for kind in LEDGER_KINDS:
        assert again.kind(kind) == ledger.kind(kind)


@given(charges, charges)
def test_what_could_not_be_stored_comes_again(
    first: list[tuple[Account, int, int]], second: list[tuple[Account, int, int]]
) -> None:
    ledger = _charged(first)
    ledger.undrain(ledger.drain())
    for account, uplink, downlink in second:
        ledger.charge(account, uplink, downlink, seconds=1.0)
    assert _by_key(ledger.drain()) == _by_key(_charged(first + second).drain())


@given(charges)
def test_sums_are_those_of_the_rows(done: list[tuple[Account, int, int]]) -> None:
    ledger = _charged(done[:10])
    for exchange in (4, 2):  # asking in between changes no later answer
        ledger.before("runaaa", exchange)
    for account, uplink, downlink in done[10:]:
        ledger.charge(account, uplink, downlink, seconds=1.0)
    rows = ledger.drain()
    for run in ("runaaa", "runbbb"):
        own = [row for row in rows if row[0][0] == run]
        assert ledger.run(run) == _sum(own)
        for exchange in range(5):
            assert ledger.exchange(run, exchange) == _sum([row for row in own if row[0][2] == exchange])
            earlier = [row for row in own if row[0][2] is not None and row[0][2] < exchange]
            assert ledger.before(run, exchange) == _sum(earlier)
        assert ledger.clients(run) == sorted({client for (_, client, _, _), _ in own if client})
    for client in ("ann", "bob"):
        assert ledger.client(client) == _sum([row for row in rows if row[0][1] == client])


def test_a_task_on_a_verdict_belongs_to_its_own_exchange() -> None:
    account = Account(kind="answer", run="runaaa", client="ann", exchange=3, uplink_payload=900)
    account.also.append(Share("register", "runaaa", exchange=4, payload=500, framing=60))
    ledger = Ledger()
    ledger.charge(account, 1000, 700, seconds=0.5)
    third, fourth = ledger.exchange("runaaa", 3), ledger.exchange("runaaa", 4)
    assert third == Bytes(1, 900, 100, 0, 140, 0, 0.5)
    assert fourth == Bytes(0, 0, 0, 500, 60)
    rows = ledger.rows("runaaa", {3: (4, 0), 5: (6, 0)})
    assert [(row.exchange, row.round, row.step) for row in rows] == [(3, 4, 0), (4, None, None)]


def test_a_run_shows_what_its_clients_spent_on_no_run() -> None:
    ledger = Ledger()
    ledger.charge(Account(kind="enrol", client="ann"), 10, 10, 0.0)
    ledger.charge(Account(kind="enrol", client="bob"), 20, 20, 0.0)
    ledger.charge(Account(kind="register", client="ann", run="runaaa", exchange=0), 30, 30, 0.0)
    ledger.charge(Account(), 40, 40, 0.0)
    assert [(row.client, row.kind) for row in ledger.rows("runaaa", {})] == [("ann", "enrol"), ("ann", "register")]


def test_asking_for_what_is_not_there_adds_nothing() -> None:
    ledger = Ledger()
    assert ledger.run("runaaa") == ledger.exchange("runaaa", 1) == ledger.before("runaaa", 1) == Bytes()
    assert ledger.client("ann") == ledger.kind("idle") == Bytes()
    assert ledger.rows("runaaa", {}) == ledger.drain() == []
