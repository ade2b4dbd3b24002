"""Clients and invites: an invite of k uses enrols k names; a lost answer is given again; what is revoked stays so."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from tests.records.conftest import Records
from thinwire.coordinator.records.client_logs import ClientLogs
from thinwire.coordinator.records.clients import Client, Clients
from thinwire.coordinator.records.invites import Invites
from thinwire.coordinator.records.presence import Presence
from thinwire.coordinator.records.tables import clients, tasks

NOW = 1000.0
CODE, OTHER = b"c" * 32, b"o" * 32


def token(number: int) -> bytes:
    return bytes([number]) * 32


@pytest.fixture
def invites(records: Records) -> Invites:
    return Invites(records.database)


@pytest.fixture
def enrolled(records: Records, invites: Invites) -> Clients:
    """Nobody yet; with two invites of nine uses."""
    for code in (CODE, OTHER):
        records.run(invites.issue(code, "ward", "client", 9, None))
    return Clients(records.database)


@given(st.booleans(), st.booleans(), st.binary(min_size=1, max_size=2), st.none() | st.binary(min_size=1, max_size=2))
def test_only_an_answer_that_may_be_lost_is_given_again(
    seen: bool, revoked: bool, invite: bytes, replaced: bytes | None
) -> None:
    client = Client("x", "g", "client", b"token", invite, seen, replaced, revoked)
    for secret in (b"token", invite, replaced, None):
        wanted = secret == (replaced or invite) and not seen and not revoked
        assert client.asks_again(secret) == wanted


@settings(max_examples=60, deadline=None)
@given(
    uses=st.integers(1, 4),
    asked=st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=12),
    groups=st.lists(st.integers(1, 5), max_size=12),
)
def test_an_invite_enrols_as_many_names_as_it_has_uses(
    opened: Records, uses: int, asked: list[tuple[str, bool]], groups: list[int]
) -> None:
    """However the requests meet, however often each is sent, and whoever has used his token in between."""
    opened.empty()
    rows, invites = Clients(opened.database), Invites(opened.database)
    opened.run(invites.issue(CODE, "ward", "client", uses, None))
    last: dict[str, Client] = {}
    used: set[str] = set()
    numbered = list(enumerate(asked))
    while numbered:
        size = groups.pop() if groups else 1
        group, numbered = numbered[:size], numbered[size:]
        told = opened.both(*(rows.enrol(name, CODE, token(number), NOW, 100) for number, (name, _) in group))
        for (number, (name, uses_it)), one in zip(group, told, strict=True):
            if isinstance(one, Client):
                assert one == Client(name, "ward", "client", token(number), CODE, seen=False)
                assert name not in used
                last[name] = one
            elif name in used:
                assert one == "name-taken"
            else:
                assert one == "invite-invalid"
                assert name not in last
                assert len(last) == uses
            if uses_it and name in last:
                opened.run(rows.mark_seen([last[name]]))
                used |= {one.name for one in opened.run(rows.all()) if one.seen}
    assert len(last) == min(uses, len({name for name, _ in asked}))
    (issued,) = opened.run(invites.list(NOW))
    assert issued.uses_left == uses - len(last)
    assert {replace(one, seen=False) for one in opened.run(rows.all())} == set(last.values())


def test_an_enrolment_whose_answer_was_lost_is_repeated(records: Records, enrolled: Clients, invites: Invites) -> None:
    lost = records.run(enrolled.enrol("ann", CODE, token(1), NOW, 10))
    told = records.run(enrolled.enrol("ann", CODE, token(2), NOW + 1, 10))
    assert (lost.token_hash, told.token_hash) == (token(1), token(2))
    assert records.run(enrolled.get("ann")) == told
    assert [one.uses_left for one in records.run(invites.list(NOW)) if one.code_hash == CODE] == [8]
    # With another invite, or once the token has been used, the name is somebody else's.
    assert records.reason(enrolled.enrol("ann", OTHER, token(3), NOW, 10)) == "name-taken"
    records.run(enrolled.mark_seen([lost]))  # the lost one was never used, whatever is said
    assert records.run(enrolled.get("ann")) == told
    records.run(enrolled.mark_seen([told]))
    assert records.run(enrolled.get("ann")) == replace(told, seen=True)
    assert records.reason(enrolled.enrol("ann", CODE, token(3), NOW, 10)) == "name-taken"
    assert [one.uses_left for one in records.run(invites.list(NOW))] == [8, 9]


def test_a_refused_enrolment_uses_nothing_up(records: Records, enrolled: Clients, invites: Invites) -> None:
    records.run(enrolled.enrol("ann", CODE, token(1), NOW, 1))
    before = records.dump()
    assert records.reason(enrolled.enrol("bob", CODE, token(2), NOW, 1)) == "too-many-requests"
    assert records.reason(enrolled.enrol("ann", OTHER, token(2), NOW, 1)) == "name-taken"
    assert records.reason(enrolled.enrol("bob", b"?" * 32, token(2), NOW, 9)) == "invite-invalid"
    assert records.dump() == before


def test_an_invite_ends_when_it_expires_and_goes_when_it_is_swept(records: Records, invites: Invites) -> None:
    rows = Clients(records.database)
    for code, expires_at in ((CODE, NOW), (OTHER, None), (b"x" * 32, NOW + 1)):
        records.run(invites.issue(code, "ward", "evaluator", 1, expires_at))
    assert records.reason(rows.enrol("ann", CODE, token(1), NOW, 9)) == "invite-invalid"
    assert records.run(rows.enrol("ann", CODE, token(1), NOW - 1, 9)).role == "evaluator"
    assert [one.code_hash for one in records.run(invites.list(NOW))] == [OTHER, b"x" * 32]
    assert len(records.run(invites.list(NOW - 1))) == 3  # the used-up one too
    records.run(invites.sweep(NOW))
    assert [one.code_hash for one in records.run(invites.list(0))] == [OTHER, b"x" * 32]


def test_an_invite_is_voided_by_its_hash_or_what_it_begins_with(records: Records, invites: Invites) -> None:
    alike = [b"\xab" * 8 + bytes([number]) * 24 for number in (1, 2)]
    for code in (CODE, *alike):
        records.run(invites.issue(code, "ward", "client", 1, None))
    assert records.run(invites.void(CODE.hex()[:8].upper()))
    assert not records.run(invites.void(CODE.hex()[:8]))
    assert not records.run(invites.void(CODE))
    for short in ("", "abab", "ab" * 4):
        assert records.reason(invites.void(short)) == "bad-request"
    assert records.run(invites.void(alike[1].hex()))
    assert [one.code_hash for one in records.run(invites.list(NOW))] == alike[:1]


def test_a_new_token_takes_the_place_of_the_one_that_asks(records: Records, enrolled: Clients) -> None:
    first = records.run(enrolled.enrol("ann", CODE, token(1), NOW, 9))
    records.run(enrolled.mark_seen([first]))
    assert records.reason(enrolled.rotate("ann", token(9), token(2))) == "token-invalid"
    assert records.reason(enrolled.rotate("bob", token(1), token(2))) == "token-invalid"
    lost = records.run(enrolled.rotate("ann", token(1), token(2)))
    assert (lost.seen, lost.token_hash, lost.replaced_hash) == (False, token(2), token(1))
    # The answer may have been lost: the old token is good for asking once more, and the invite for nothing.
    told = records.run(enrolled.rotate("ann", token(1), token(3)))
    assert records.reason(enrolled.enrol("ann", CODE, token(4), NOW, 9)) == "name-taken"
    assert records.run(enrolled.get("ann")) == told
    records.run(enrolled.mark_seen([lost]))
    assert records.run(enrolled.get("ann")) == told
    records.run(enrolled.mark_seen([told]))
    assert records.reason(enrolled.rotate("ann", token(1), token(4))) == "token-invalid"
    assert records.run(enrolled.rotate("ann", token(3), token(4))).token_hash == token(4)


def task(number: int, run: str, client: str, state: str) -> dict[str, object]:
    return {"id": f"t{number}", "run": run, "exchange": 0, "slot": number, "offer": 1, "client": client, "state": state}


def test_a_revoked_client_is_out_at_once_and_can_be_revoked_again(
    records: Records, enrolled: Clients, invites: Invites
) -> None:
    """Its open tasks are late with it; with the invite too, also later."""
    for name in ("ann", "bob"):
        records.run(enrolled.enrol(name, CODE, token(ord(name[0])), NOW, 9))
    records.run(Presence(records.database).arrive("ann", None, {"run": 3}, NOW))
    states = [("b", "ann", "open"), ("a", "ann", "open"), ("c", "ann", "accepted"), ("d", "bob", "open")]
    records.write(insert(tasks).values([task(number, *state) for number, state in enumerate(states)]))
    assert records.run(enrolled.revoke("ann", NOW + 1, invite=False)) == ["a", "b"]
    (ann, bob) = records.run(enrolled.all())
    assert (ann.revoked, bob.revoked) == (True, False)
    assert records.run(Presence(records.database).get("ann")) is None
    query = select(tasks.c.state).order_by(tasks.c.id)
    found = records.run(records.database.read(lambda connection: list(connection.scalars(query))))
    assert found == ["late", "late", "accepted", "open"]
    once = records.dump()
    assert records.run(enrolled.revoke("ann", NOW + 2, invite=False)) == []
    assert records.dump() == once
    assert records.reason(enrolled.rotate("ann", token(ord("a")), token(9))) == "token-invalid"
    assert records.reason(enrolled.enrol("ann", CODE, token(9), NOW, 9)) == "invite-invalid"
    for _ in range(2):
        assert records.run(enrolled.revoke("ann", NOW + 3, invite=True)) == []
        assert [one.code_hash for one in records.run(invites.list(NOW))] == [OTHER]
    assert records.reason(enrolled.enrol("leo", CODE, token(9), NOW, 9)) == "invite-invalid"
    assert records.reason(enrolled.revoke("nobody", NOW, invite=True)) == "not-found"
    # With an invite of its own the name is free again, and nobody's memory.
    again = records.run(enrolled.enrol("ann", OTHER, token(9), NOW + 4, 2))
    assert again == Client("ann", "ward", "client", token(9), OTHER, seen=False)
    assert records.run(enrolled.get("ann")) == again


def test_a_deleted_client_is_in_no_list_and_does_not_come_back_with_its_invite(
    records: Records, enrolled: Clients
) -> None:
    """Its place is free, its tasks stay, what its log said goes, and its version tells the other replicas."""
    first = records.run(enrolled.enrol("ann", CODE, token(1), NOW, 1))
    records.run(enrolled.rename("ann", "window"))
    records.run(Presence(records.database).arrive("ann", None, {}, NOW))
    records.run(ClientLogs(records.database).add("ann", [(NOW, "said")], 9, NOW))
    records.write(insert(tasks).values([task(1, "r1", "ann", "open"), task(2, "r1", "ann", "accepted")]))
    version, _ = records.run(enrolled.changed(0))
    assert records.run(enrolled.delete("ann", NOW + 1)) == ["r1"]
    assert records.run(enrolled.all()) == []
    assert records.run(enrolled.changed(version)) == (version + 2, ["ann"])
    gone = records.run(enrolled.get("ann"))
    assert gone == replace(first, revoked=True, deleted=True)
    query = select(tasks.c.state).order_by(tasks.c.id)
    assert records.run(records.database.read(lambda db: list(db.scalars(query)))) == ["late", "accepted"]
    assert records.run(ClientLogs(records.database).of("ann")) == ([], None)
    wanted = (enrolled.delete("ann", NOW + 2), enrolled.revoke("ann", NOW, invite=True), enrolled.rename("ann", "b"))
    assert [records.reason(one) for one in wanted] == ["not-found"] * 3
    assert records.reason(enrolled.enrol("ann", CODE, token(2), NOW + 2, 1)) == "invite-invalid"
    assert records.reason(enrolled.rotate("ann", token(1), token(9))) == "token-invalid"
    assert not records.run(enrolled.enrol("bob", CODE, token(3), NOW + 3, 1)).deleted
    assert records.reason(enrolled.enrol("ann", OTHER, token(4), NOW + 3, 1)) == "too-many-requests"
    assert records.run(enrolled.enrol("ann", OTHER, token(4), NOW + 3, 2)) == records.run(enrolled.get("ann"))
    assert [one.name for one in records.run(enrolled.all())] == ["ann", "bob"]


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(["enrol", "again", "rotate", "revoke", "revoke too", "seen"]))
def test_whatever_meets_a_revocation_nobody_is_let_in_by_what_it_ended(opened: Records, order: list[str]) -> None:
    """All at once, in any order: whoever was not let in before the last revocation is out after it."""
    opened.empty()
    rows, invites = Clients(opened.database), Invites(opened.database)
    opened.run(invites.issue(CODE, "ward", "client", 9, None))
    first = opened.run(rows.enrol("ann", CODE, token(1), NOW, 9))
    works = {
        "enrol": rows.enrol("bob", CODE, token(2), NOW, 9),
        "again": rows.enrol("ann", CODE, token(3), NOW, 9),
        "rotate": rows.rotate("ann", token(1), token(4)),
        "revoke": rows.revoke("ann", NOW, invite=False),
        "revoke too": rows.revoke("ann", NOW, invite=True),
        "seen": rows.mark_seen([first]),
    }
    told = dict(zip(order, opened.both(*(works[name] for name in order)), strict=True))
    found = {one.name: one for one in opened.run(rows.all())}
    assert found["ann"].revoked
    assert told["revoke"] == told["revoke too"] == []
    assert isinstance(told["enrol"], Client) == (order.index("enrol") < order.index("revoke too")) == ("bob" in found)
    assert opened.run(invites.list(NOW)) == []
    ended = min(order.index("revoke"), order.index("revoke too"))
    for name in ("again", "rotate"):
        assert order.index(name) < ended or isinstance(told[name], str)


def test_when_a_client_enrolled_stays_when_its_token_changes(records: Records, enrolled: Clients) -> None:
    records.run(enrolled.enrol("ann", CODE, token(1), NOW, 9))
    records.run(enrolled.rotate("ann", token(1), token(2)))
    query = select(clients.c.enrolled_at)
    assert records.run(records.database.read(lambda connection: connection.scalar(query))) == NOW


def test_many_enrolments_at_once_are_few_commits(records: Records, enrolled: Clients, invites: Invites) -> None:
    records.run(invites.issue(b"m" * 32, "ward", "client", 300, None))
    before = records.database.commits

    async def work() -> None:
        await asyncio.gather(*(enrolled.enrol(f"c{n}", b"m" * 32, n.to_bytes(32), NOW, 1000) for n in range(300)))

    records.run(work())
    assert records.database.commits - before <= 5
