"""Laws of the ledger: no byte is lost, invented or counted twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thinwire.coordinator.ledger import Account, Ledger, Share, Tally
from thinwire.protocol.messages import LEDGER_KINDS, LedgerKind, LedgerRow

runs = st.sampled_from(["", "runaaa", "runbbb"])
clients = st.sampled_from(["", "ann", "bob"])
exchanges = st.one_of(st.none(), st.integers(0, 4))
kinds: st.SearchStrategy[LedgerKind] = st.sampled_from(LEDGER_KINDS)
counts = st.integers(0, 10**6)
shares = st.builds(
    Share, kind=kinds, run=runs, exchange=st.integers(0, 4), round=st.integers(1, 3), step=st.integers(0, 2),
    payload=counts, framing=counts,
)  # fmt: skip
accounts = st.builds(
    Account, kind=kinds, run=runs, client=clients, exchange=exchanges, round=st.integers(1, 3), step=st.integers(0, 2),
    uplink_payload=counts, downlink_payload=counts, resumed=counts, also=st.lists(shares, max_size=2),
)  # fmt: skip
charges = st.lists(st.tuples(accounts, counts, counts), max_size=20)


def _charged(all_of_them: list[tuple[Account, int, int]]) -> Ledger:
    ledger = Ledger()
    for account, uplink, downlink in all_of_them:
        ledger.charge(account, uplink, downlink, seconds=1.0)
    return ledger


def _sum(rows: list[LedgerRow]) -> tuple[int, int]:
    uplink = sum(row.uplink_payload_bytes + row.uplink_framing_bytes for row in rows)
    return uplink, sum(row.downlink_payload_bytes + row.downlink_framing_bytes for row in rows)


def _by_key(rows: list[LedgerRow]) -> dict[tuple[object, ...], tuple[int, ...]]:
    found: dict[tuple[object, ...], tuple[int, ...]] = {}
    for row in rows:
        key = (row.run, row.client, row.exchange, row.kind)
        values = (row.requests, row.uplink_payload_bytes, row.uplink_framing_bytes, row.downlink_payload_bytes,
                  row.downlink_framing_bytes, row.resumed_bytes)  # fmt: skip
        before = found.get(key, (0,) * len(values))
        found[key] = tuple(a + b for a, b in zip(before, values, strict=True))
    return found


@given(charges)
def test_what_is_charged_is_what_the_rows_hold(done: list[tuple[Account, int, int]]) -> None:
    rows = _charged(done).drain()
    assert _sum(rows) == (sum(up for _, up, _ in done), sum(down for _, _, down in done))
    assert sum(row.requests for row in rows) == len(done)


@given(charges)
def test_payload_never_exceeds_what_was_on_the_wire(done: list[tuple[Account, int, int]]) -> None:
    for account, uplink, downlink in done:
        for row in _charged([(account, uplink, downlink)]).drain():
            assert row.uplink_payload_bytes <= min(uplink, account.uplink_payload)
            assert row.downlink_payload_bytes + row.downlink_framing_bytes <= downlink


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
        assert _by_key(again.rows(run)) == _by_key(ledger.rows(run))
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
        own = [row for row in rows if row.run == run]
        assert (ledger.run(run).uplink, ledger.run(run).downlink) == _sum(own)
        for exchange in range(5):
            tally, before = ledger.exchange(run, exchange), ledger.before(run, exchange)
            assert (tally.uplink, tally.downlink) == _sum([row for row in own if row.exchange == exchange])
            earlier = [row for row in own if row.exchange is not None and row.exchange < exchange]
            assert (before.uplink, before.downlink) == _sum(earlier)
        assert ledger.clients(run) == sorted({row.client for row in own if row.client})
    for client in ("ann", "bob"):
        tally = ledger.client(client)
        assert (tally.uplink, tally.downlink) == _sum([row for row in rows if row.client == client])


def test_a_task_on_a_verdict_belongs_to_its_own_exchange() -> None:
    account = Account(kind="answer", run="runaaa", client="ann", exchange=3, round=4, step=0, uplink_payload=900)
    account.also.append(Share("register", "runaaa", exchange=4, round=5, step=0, payload=500, framing=60))
    ledger = Ledger()
    ledger.charge(account, 1000, 700, seconds=0.5)
    third, fourth = ledger.exchange("runaaa", 3), ledger.exchange("runaaa", 4)
    assert third == Tally(1, 900, 100, 0, 140, 0, 0.5)
    assert fourth == Tally(0, 0, 0, 500, 60)
    assert [(row.exchange, row.round) for row in ledger.rows("runaaa")] == [(3, 4), (4, 5)]


def test_a_run_shows_what_its_clients_spent_on_no_run() -> None:
    ledger = Ledger()
    ledger.charge(Account(kind="enrol", client="ann"), 10, 10, 0.0)
    ledger.charge(Account(kind="enrol", client="bob"), 20, 20, 0.0)
    ledger.charge(Account(kind="register", client="ann", run="runaaa", exchange=0), 30, 30, 0.0)
    ledger.charge(Account(), 40, 40, 0.0)
    assert [(row.client, row.kind) for row in ledger.rows("runaaa")] == [("ann", "enrol"), ("ann", "register")]


def test_asking_for_what_is_not_there_adds_nothing() -> None:
    ledger = Ledger()
    assert ledger.run("runaaa") == ledger.exchange("runaaa", 1) == ledger.before("runaaa", 1) == Tally()
    assert ledger.client("ann") == ledger.kind("idle") == Tally()
    assert ledger.rows("runaaa") == ledger.drain() == []
