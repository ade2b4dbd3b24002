"""What the pages read, over every kind of database: who took part, how far runs are, who is there, what it cost."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, update

from tests.records.house import CLOSING, NOW, House
from thinwire.coordinator.records import tables
from thinwire.coordinator.records.audit import Audit, Deed
from thinwire.coordinator.records.bills import DAY_S, Bills
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.participation import Participation
from thinwire.coordinator.records.people import People
from thinwire.coordinator.records.progress import Progress
from thinwire.coordinator.records.sessions import Sessions
from thinwire.protocol.bytes import Bytes

COOKIE, TOKEN = b"c" * 32, b"k" * 32


def test_a_cookie_stands_for_its_token_until_it_ends(house: House) -> None:
    sessions = Sessions(house.records.database)
    house.do(sessions.begin(COOKIE, TOKEN, NOW, NOW + 10))
    assert house.do(sessions.find(COOKIE, NOW + 9)) == TOKEN
    assert house.do(sessions.find(COOKIE, NOW + 10)) is None
    assert house.do(sessions.find(TOKEN, NOW)) is None
    house.do(sessions.begin(b"d" * 32, TOKEN, NOW + 20, NOW + 30))
    assert len(house.records.dump()["sessions"]) == 1  # what has expired is forgotten
    house.do(sessions.end(b"d" * 32))
    assert house.do(sessions.find(b"d" * 32, NOW + 21)) is None


def test_deeds_are_told_the_newest_first(house: House) -> None:
    audit = Audit(house.records.database)
    deeds = [
        Deed(NOW + number, f"who{number % 2}", "::1", "POST", f"/v1/runs/{number}/stop", 200) for number in range(5)
    ]
    for deed in deeds:
        house.do(audit.add(deed))
    told = house.do(audit.latest(3))
    assert [deed for _, deed in told] == deeds[:1:-1]
    assert [deed for _, deed in house.do(audit.latest(9, before=told[-1][0]))] == deeds[1::-1]
    assert [deed for _, deed in house.do(audit.latest(9, about="who1"))] == [deeds[3], deeds[1]]
    assert house.do(audit.latest(9, about="%")) == []


def test_days_are_the_ledgers_bytes(house: House) -> None:
    now = [NOW]
    ledger, bills = Ledger(house.records.database, clock=lambda: now[0]), Bills(house.records.database)
    day = int(NOW // DAY_S)
    ledger.record(("run1", "anna", 0, "answer"), Bytes(1, 100, 10, 0, 5))
    ledger.record(("run1", "anna", 1, "payload"), Bytes(1, 0, 0, 1000, 20))
    house.do(ledger.flush())
    ledger.record(("run1", "anna", 1, "payload"), Bytes(0, 0, 0, 0, -5))
    ledger.record(("", "bert", None, "idle"), Bytes(1, 0, 7, 0, 0))
    house.do(ledger.flush())
    now[0] += DAY_S
    ledger.record(("run1", "bert", 1, "answer"), Bytes(1, 50, 0, 0, 0))
    house.do(ledger.flush())
    assert house.do(bills.days(None, 0)) == {day: 1137, day + 1: 50}
    assert house.do(bills.days("run1", day + 1)) == {day + 1: 50}
    assert house.do(bills.days("run1", day)) == {day: 1137, day + 1: 50}  # with what its clients cost without a run
    assert house.do(bills.day_of(["anna", "bert"], day)) == {"anna": 1130, "bert": 7}
    rows = house.do(bills.rows("run1"))
    assert {key: value.wire for key, value in rows.items()} == {
        ("anna", "answer"): 115, ("anna", "payload"): 1015, ("bert", "answer"): 50, ("bert", "idle"): 7,
    }  # fmt: skip
    assert sum(value.wire for value in house.do(bills.rows(None)).values()) == 1187


def test_who_took_part_and_who_did_not(house: House) -> None:
    house.enrol("anna", "bert", "cleo")
    house.enrol("dora", revoked=True)
    lease = house.run()
    anna, bert, _ = house.exchange(lease, 0, "anna", "bert", "cleo")
    house.records.write(insert(tables.presence).values(client="cleo", holds={}, seen_at=NOW, parked=False, gone=False))
    house.arrive(anna, "anna", metrics={"loss": 0.5, "seconds": 3.0})
    house.do(house.tasks.verdict(lease, anna, "accepted", None, None, 1, NOW))
    house.do(house.tasks.decline(bert, "bert", "too hot", NOW))
    participation = Participation(house.records.database)
    assert house.do(participation.asked("run1", 0, 5)) == {0: 3}
    missing = house.do(participation.missing("run1", 0, 0, 10))
    assert [(one.client, one.state, one.reason, one.seen_at) for one in missing] == [
        ("bert", "late", "declined", None), ("cleo", "open", None, NOW),
    ]  # fmt: skip
    assert [one.client for one in house.do(participation.missing("run1", 0, 0, 10, trouble=True))] == ["bert"]
    # Asked again, and now it counts: it is not missing.
    (again,) = house.ask(lease, 0, "bert", offer=2)
    assert [one.state for one in house.do(participation.missing("run1", 0, 0, 10)) if one.client == "bert"] == ["open"]
    house.arrive(again, "bert")
    house.do(house.tasks.verdict(lease, again, "accepted", None, None, 2, NOW))
    assert [one.client for one in house.do(participation.missing("run1", 0, 0, 10))] == ["cleo"]
    assert house.do(participation.counted("run1", 0)) == {"anna", "bert"}
    values: dict[str, Any] = {"run": "run1", "client": "anna", "exchange": 0, "requests": 1, "uplink_payload_bytes": 1,
                              "uplink_framing_bytes": 1, "downlink_payload_bytes": 1, "downlink_framing_bytes": 1,
                              "resumed_bytes": 0}  # fmt: skip
    kinds = (("answer", 2.0), ("payload", 1.5), ("plan", 0.5))
    house.records.write(*(insert(tables.ledger).values(**values, kind=kind, seconds=of) for kind, of in kinds))
    efforts = {one.client: one for one in house.do(participation.efforts("run1", 0, 10))}
    assert efforts.keys() == {"anna", "bert", "cleo"}
    assert (efforts["anna"].download_s, efforts["anna"].upload_s, efforts["anna"].metrics["seconds"]) == (2.0, 2.0, 3.0)
    assert (efforts["cleo"].arrived_at, efforts["bert"].state) == (None, "accepted")


def test_how_far_runs_are(house: House) -> None:
    progress = Progress(house.records.database)
    assert house.do(progress.newest_at()) is None
    lease = house.run(now=NOW)
    house.exchange(lease, 0)
    house.do(house.exchanges.close(lease, CLOSING, 1, 0, NOW + 5))
    curves = house.do(progress.curves(["run1", "run2"], 10))
    assert [(one.exchange, dict(one.metrics)) for one in curves["run1"]] == [(0, {"loss": 0.5})]
    assert curves["run2"] == []
    assert house.do(progress.changed_at(["run1"])) == {"run1": NOW + 5}
    assert house.do(progress.newest_at()) == NOW + 5
    assert house.do(progress.latest_closed(5)) == [("run1", 0, NOW + 5)]
    assert house.do(progress.spent(["run1"])) == {}


def test_clients_by_what_is_looked_for(house: House) -> None:
    house.enrol("anna", "bert", "ward_1")
    house.enrol("dora", revoked=True)
    lease = house.run()
    house.exchange(lease, 0, "bert")
    house.records.write(insert(tables.presence).values(client="anna", holds={}, seen_at=NOW, parked=True, gone=False))
    people = People(house.records.database)

    def names(about: str = "", order: Any = "name", first: int = 0, most: int = 10, **also: bool) -> list[str]:
        chosen = {"backwards": False, "revoked": False, **also}
        return [one.name for one in house.do(people.page(about, order, first, most, **chosen))[1]]

    assert names() == ["anna", "bert", "ward_1"]
    assert names(revoked=True) == ["anna", "bert", "dora", "ward_1"]
    assert names(order="seen", backwards=True)[0] == "anna"
    assert names("_") == ["ward_1"]
    assert names(first=1, most=1) == ["bert"]
    assert names(order="bytes") == ["anna", "bert", "ward_1"]
    count, found = house.do(people.page("", "name", 0, 10, backwards=False, revoked=False))
    assert (count, [one.works_for for one in found], found[0].parked) == (3, [None, "run1", None], True)
    house.records.write(update(tables.clients).where(tables.clients.c.name == "dora").values(revoked_at=NOW + 9))
    assert (NOW + 9, "dora", "revoked") in house.do(people.latest(5))
