"""Laws of the ledger: no byte is lost, invented or counted twice, whatever becomes of its writes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from tests.records.conftest import Records
from thinwire.coordinator.records import ledger_rows as module
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.tables import exchanges
from thinwire.coordinator.wire.accounting import Account, Bill, Key, Share
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LEDGER_KINDS, LedgerKind, LedgerRow, LinkRow

RUNS, CLIENTS = ["", "runaaa", "runbbb"], ["", "ann", "bob"]
runs, clients = st.sampled_from(RUNS), st.sampled_from(CLIENTS)
kinds: st.SearchStrategy[LedgerKind] = st.sampled_from(LEDGER_KINDS)
counts = st.integers(0, 10**6)
shares = st.builds(Share, kind=kinds, run=runs, exchange=st.integers(0, 4), payload=counts, framing=counts)
accounts = st.builds(
    Account, kind=kinds, run=runs, client=clients, exchange=st.none() | st.integers(0, 4), uplink_payload=counts,
    downlink_payload=counts, resumed=counts, also=st.lists(shares, max_size=2),
)  # fmt: skip
charges = st.tuples(st.just("charge"), accounts, counts, counts)
steps = st.lists(
    charges | st.sampled_from(["flush", "refused", "given up", "restart", "ask"]).map(lambda step: (step,))
)
Sums = defaultdict[Key, Bytes]


def charge(ledger: Ledger, account: Account, uplink: int, downlink: int) -> None:
    """A request of so many bytes."""
    for key, value in account.split(uplink, downlink, 0.0):
        ledger.record(key, value)


def rows_of(records: Records, ledger: Ledger, run: str) -> list[list[LedgerRow]]:
    async def work() -> list[list[LedgerRow]]:
        listing = await ledger.rows(run)
        found = [block async for block in listing.blocks]
        assert sum(map(len, found)) == listing.count
        return found

    return records.run(work())


def value_of(row: LedgerRow) -> tuple[Key, Bytes]:
    *identity, _, _, kind, requests, up, up_framing, down, down_framing, resumed, seconds = row.model_dump().values()
    value = Bytes(requests, up, up_framing, down, down_framing, resumed, seconds)
    return (*identity, kind), value  # type: ignore[return-value]


def summed(records: Records, asking: Awaitable[Any], *by: str) -> dict[tuple[str, ...], Bytes]:
    """Sums as the ledger gives them, a row for each but for what could not be stored."""

    async def work() -> list[LedgerRow]:
        found = await asking
        rows = found if isinstance(found, list) else [row async for block in found.blocks for row in block]
        assert isinstance(found, list) or len(rows) == found.count
        return rows

    sums: dict[tuple[str, ...], Bytes] = defaultdict(Bytes)
    for row in records.run(work()):
        sums[tuple(getattr(row, name) for name in by)] += value_of(row)[1]
    return dict(sums)


def check(records: Records, ledger: Ledger, sums: Sums) -> None:
    """Every question is answered by the sums of what was charged."""

    def total(**wanted: object) -> Bytes:
        names = ("run", "client", "exchange", "kind")
        keys = {key for key in sums if wanted.items() <= dict(zip(names, key, strict=True)).items()}
        return Bytes.sum(sums[key] for key in keys)

    for run in RUNS[1:]:
        own = {key for key in sums if key[0] == run}
        found = records.run(ledger.exchanges(run))
        assert found == {exchange: total(run=run, exchange=exchange) for exchange in {key[2] for key in own}}
        members = {key[1] for key in own if key[1]}
        assert records.run(ledger.clients_of(run)) == sorted(members)
        wanted = {key: sums[key] for key in sums if key in own or (not key[0] and key[1] in members)}
        shown: Sums = defaultdict(Bytes)
        for block in rows_of(records, ledger, run):
            for key, value in map(value_of, block):
                shown[key] += value
        assert shown == wanted
        by_client, by_kind = defaultdict(Bytes), defaultdict(Bytes)
        for (_, client, _, kind), value in wanted.items():
            by_client[client, kind] += value
            by_kind[kind] += value
        assert summed(records, ledger.client_sums(run), "client", "kind") == by_client
        assert summed(records, ledger.kind_sums(run), "kind") == {(kind,): by_kind[kind] for kind in by_kind}
    for client in CLIENTS:
        assert records.run(ledger.client(client)) == total(client=client)


@settings(max_examples=50, deadline=None)
@given(steps=steps, is_shared=st.booleans())
def test_whatever_becomes_of_its_writes_the_ledger_holds_what_was_charged(
    opened: Records, steps: list[tuple], is_shared: bool
) -> None:
    """Also while nothing can be stored."""
    opened.empty()
    ledger, sums = Ledger(opened.database, is_shared=is_shared), Sums(Bytes)

    async def give_up() -> None:
        flushing = asyncio.create_task(ledger.flush())
        for _ in range(3):  # by then the rows are on their way
            await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)

    for step, *said in steps:
        match step:
            case "charge":
                account, uplink, downlink = said
                for key, value in account.split(uplink, downlink, 1.0):
                    ledger.record(key, value)
                    sums[key] += value
            case "flush":
                opened.run(ledger.flush())
            case "given up":
                opened.run(give_up())
            case "refused":
                with opened.refusing("ledger"):
                    opened.both(ledger.flush(), ledger.flush())
                    check(opened, ledger, sums)
            case "restart":
                opened.run(ledger.flush())
                ledger = Ledger(opened.database, is_shared=is_shared)
            case "ask":
                check(opened, ledger, sums)
    check(opened, ledger, sums)
    opened.run(ledger.flush())
    check(opened, Ledger(opened.database), sums)


def test_many_who_flush_and_ask_at_once_see_what_was_charged_before(records: Records) -> None:
    ledger = Ledger(records.database)

    async def work() -> None:
        for number in range(1, 30):
            ledger.record(("runaaa", "ann", number % 3, "answer"), Bytes(1, number))
            told, *_ = await asyncio.gather(ledger.client("ann"), ledger.flush(), ledger.exchanges("runaaa"))
            assert told == Bytes(number, number * (number + 1) // 2)

    records.run(work())


def test_two_replicas_add_to_one_ledger(records: Records) -> None:
    one, two = Ledger(records.database), Ledger(records.database)
    for number in range(10):
        for ledger in (one, two):
            ledger.record(("runaaa", "ann", 0, "answer"), Bytes(1, number))
            records.run(ledger.flush())
    assert records.run(one.client("ann")) == records.run(two.client("ann")) == Bytes(20, 90)


def test_rows_come_in_order_and_in_blocks_with_the_round_of_their_exchange(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)
    ledger = Ledger(records.database)
    known = {
        "run": "runaaa", "kind": "train", "plan": b"", "parts": [], "max_payload_bytes": 0, "cohort": "new", "size": 1,
        "offers": 1, "seconds": 0.0, "clock_at": 0.0, "closed": False, "answers": 0, "metrics": {},
    }  # fmt: skip
    records.write(insert(exchanges).values([{**known, "exchange": n, "round": n + 1, "step": n % 2} for n in range(2)]))
    for client in ("bob", "", "ann", "zoe"):
        for kind in ("register", "answer"):
            for exchange in (2, None, 0, 1):
                ledger.record(("runaaa", client, exchange, kind), Bytes(1))
        ledger.record(("", client, None, "answer"), Bytes(1))
        ledger.record(("runbbb", client, 0, "answer"), Bytes(1))
    ledger.record(("", "stranger", None, "enrol"), Bytes(1))
    blocks = rows_of(records, ledger, "runaaa")
    assert [len(block) for block in blocks] == [4] * 8 + [3]
    rows = [row for block in blocks for row in block]
    keys = [(row.client, -1 if row.exchange is None else row.exchange, row.kind, row.run) for row in rows]
    assert keys == sorted(keys)
    assert len(set(keys)) == 4 * 8 + 3
    assert {(row.exchange, row.round, row.step) for row in rows} == {
        (None, None, None), (0, 1, 0), (1, 2, 1), (2, None, None)
    }  # fmt: skip


def test_a_run_shows_what_its_clients_spent_on_no_run(records: Records) -> None:
    ledger = Ledger(records.database)
    charge(ledger, Account(kind="enrol", client="ann"), 10, 10)
    charge(ledger, Account(kind="enrol", client="bob"), 20, 20)
    charge(ledger, Account(kind="register", client="ann", run="runaaa", exchange=0), 30, 30)
    charge(ledger, Account(), 40, 40)
    (block,) = rows_of(records, ledger, "runaaa")
    assert [(row.client, row.kind) for row in block] == [("ann", "enrol"), ("ann", "register")]


def test_asking_for_what_is_not_there_adds_nothing(records: Records) -> None:
    ledger = Ledger(records.database)
    before = records.dump()
    assert records.run(ledger.exchanges("runaaa")) == ledger.carried == {}
    assert records.run(ledger.client("ann")) == Bytes()
    assert rows_of(records, ledger, "runaaa") == records.run(ledger.links("runaaa")) == []
    assert records.dump() == before


@settings(max_examples=50, deadline=None)
@given(
    reports=st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(["ann", "bob"]), counts, counts, st.booleans()), max_size=12
    )
)
def test_links_never_go_back(opened: Records, reports: list[tuple[int, str, int, int, bool]]) -> None:
    """In whatever order reports arrive, at whichever of two replicas, stored at once or refused first.

    Who has counted nothing is not shown.
    """
    opened.empty()
    ledgers = Ledger(opened.database), Ledger(opened.database)
    most: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    ledgers[0].record(("runaaa", "ann", 0, "answer"), Bytes(1, 2, 3, 4, 5))
    ledgers[0].record(("runbbb", "ann", 0, "answer"), Bytes(1, 20, 30, 40, 50))
    for number, client, sent, received, flush in reports:
        ledgers[number].report_link(client, sent, received)
        most[client] = max(most[client][0], sent), max(most[client][1], received)
        with opened.refusing("links"):
            opened.both(ledgers[number].flush())
        if flush:
            opened.run(ledgers[number].flush())
    for ledger in ledgers:
        opened.run(ledger.flush())
    wanted = [LinkRow(client="ann", sent_bytes=most["ann"][0], received_bytes=most["ann"][1], uplink_bytes=55,
                      downlink_bytes=99)] if any(most["ann"]) else []  # fmt: skip
    assert opened.run(ledgers[1].links("runaaa")) == wanted


def test_what_open_requests_have_carried_is_told_until_they_are_charged(records: Records) -> None:
    ledger = Ledger(records.database)
    carried = [100]
    account = Account(kind="answer", run="runaaa", exchange=3)
    other = Bill(ledger, Account(run="runbbb"))
    with (
        ledger.while_open(Bill(ledger, account), lambda: Bytes(0, 0, carried[0])),
        ledger.while_open(other, lambda: Bytes(0, 0, 4, 0, 3)),
    ):
        assert ledger.uncharged("runaaa", {3, 4}) == 100
        carried[0] = 150
        assert ledger.uncharged("runaaa", {3}) == 150
        account.exchange = 4
        assert ledger.uncharged("runaaa", {3}) == 0
        assert ledger.uncharged("runbbb", {None}) == 7
    assert ledger.uncharged("runaaa", {3, 4}) == ledger.uncharged("runbbb", {None}) == 0


def test_what_a_process_has_carried_begins_with_it(records: Records) -> None:
    """A counter that went on from rows would fall where the last moments of a process were lost with it, and a counter
    that falls reads as a restart: everything since the first start would seem to have crossed again.
    """
    before = Ledger(records.database)
    charge(before, Account(kind="enrol", client="ann"), 10, 20)
    records.run(before.flush())
    charge(before, Account(kind="enrol", client="ann"), 1, 2)
    assert before.carried["enrol"].wire == 33
    after = Ledger(records.database)
    assert after.carried == {}
    charge(after, Account(kind="enrol", client="ann"), 4, 5)
    with records.refusing("ledger"):
        records.both(after.flush())
        assert after.carried["enrol"].wire == 9
    records.run(after.flush())
    assert after.carried["enrol"].wire == 9
    assert records.run(after.client("ann")).wire == 39
