"""Who is there: the rows say what a model of them says, whatever came before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert

from tests.records.conftest import Records
from thinwire.coordinator.records import presence as module
from thinwire.coordinator.records.clients import Clients
from thinwire.coordinator.records.presence import Presence, Seen, note_held
from thinwire.coordinator.records.tables import clients
from thinwire.protocol.fields import Role

SPECS = [None, b"a" * 8, b"b" * 8]
CLIENTS: dict[str, tuple[str, Role]] = {
    "ann": ("ward", "client"), "bob": ("ward", "evaluator"), "cy": ("icu", "client"), "dee": ("ward", "client"),
    "op": ("ward", "operator"),
}  # fmt: skip
ROLES: list[set[Role]] = [{"client"}, {"client", "evaluator"}]
names = st.sampled_from([*CLIENTS, "stranger"])
times = st.integers(0, 20).map(float)
steps = st.lists(
    st.tuples(st.just("arrive"), names, st.sampled_from(SPECS), st.dictionaries(st.sampled_from("xy"), st.just(1)))
    | st.tuples(st.just("leave"), names, st.booleans())
    | st.tuples(st.just("close"), names)
    | st.tuples(st.just("touch"), st.lists(names, max_size=3))
    | st.tuples(st.just("hold"), names, st.sampled_from("xy"), st.integers(0, 9))
    | st.tuples(st.just("revoke"), st.sampled_from(list(CLIENTS)))
    | st.tuples(st.just("reset")),
    max_size=15,
)


@dataclass
class Model:
    """What was said of each client, and who has been revoked."""

    seen: dict[str, Seen] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)

    def step(self, now: float, kind: str, *said: object) -> None:
        match kind, *said:
            case "arrive", str(name), spec, holds:
                self.seen[name] = Seen(name, spec, holds, now, True, False)
            case "leave", str(name), gone if name in self.seen:
                one = self.seen[name]
                at = one.seen_at if gone else max(one.seen_at, now)
                self.seen[name] = Seen(name, one.spec, one.holds, at, False, bool(gone))
            case "close", str(name) if name in self.seen and not self.seen[name].parked:
                self.seen[name] = replace(self.seen[name], gone=True)
            case "touch", [*touched]:
                for name in touched:
                    one = self.seen.get(name, Seen(name, None, {}, now, False, False))
                    self.seen[name] = Seen(name, one.spec, one.holds, max(one.seen_at, now), one.parked, False)
            case "hold", str(name), run, exchange if name in self.seen:
                one = self.seen[name]
                holds = {**one.holds, run: exchange}
                self.seen[name] = Seen(name, one.spec, holds, max(one.seen_at, now), one.parked, False)
            case "revoke", str(name):
                self.revoked.add(name)
                self.seen.pop(name, None)
            case ("reset",):
                for name, one in self.seen.items():
                    self.seen[name] = Seen(name, one.spec, one.holds, one.seen_at, False, True)

    def members(self, group: str, spec: bytes | None, roles: set[Role]) -> set[str]:
        return {
            name
            for name, (its, role) in CLIENTS.items()
            if (its, role in roles, name in self.revoked) == (group, True, False)
            and (spec is None or name not in self.seen or self.seen[name].spec in (None, spec))
        }

    def present(self, group: str, spec: bytes | None, roles: set[Role], since: float) -> set[str]:
        there = {name for name, one in self.seen.items() if not one.gone and (one.parked or one.seen_at >= since)}
        return there & self.members(group, spec, roles)


def _hold(client: str, run: str, exchange: int, now: float, connection: Connection) -> None:
    note_held(connection, client, run, exchange, now)


def enrol_all(opened: Records) -> None:
    opened.empty()
    rows = [
        {
            "name": name,
            "group": group,
            "role": role,
            "token_hash": b"",
            "invite_hash": b"",
            "seen": True,
            "enrolled_at": 0,
        }
        for name, (group, role) in CLIENTS.items()
    ]
    opened.write(insert(clients).values([{**row, "enrolled_at": 0.0} for row in rows]))


@settings(max_examples=60, deadline=None)
@given(
    steps=steps, at=st.lists(times, min_size=15, max_size=15), since=times, some=st.sets(names), many=st.booleans(),
    spec=st.sampled_from(SPECS),
)  # fmt: skip
def test_who_is_there_is_who_the_model_says(
    opened: Records,
    steps: list[tuple],
    at: list[float],
    since: float,
    some: set[str],
    many: bool,
    spec: bytes | None,
) -> None:
    """Also where the clock goes back, which it may."""
    enrol_all(opened)
    rows, model = Presence(opened.database), Model()
    for now, (kind, *said) in zip(at, steps, strict=False):
        model.step(now, kind, *said)
        match kind:
            case "revoke":
                opened.run(Clients(opened.database).revoke(said[0], now, invite=False))
            case "reset":
                opened.run(rows.reset())
            case "leave":
                opened.run(rows.leave({said[0]: said[1]}, now))
            case "close":
                opened.run(rows.leave({}, now, closed=[said[0]]))
            case "hold":
                opened.run(opened.database.transaction(partial(_hold, *said, now)))
            case _:
                opened.run(getattr(rows, kind)(*said, now))
    names = some | {f"nobody-{number}" for number in range(module._MAX_NAMES * many)}
    for group in ("ward", "icu", "none"):
        for roles in ROLES:
            present = opened.run(rows.present(group, spec, roles, since))
            assert present == model.present(group, spec, roles, since)
            assert opened.run(rows.present(group, spec, roles, since, names)) == present & names
            assert opened.run(rows.members(group, spec, roles)) == model.members(group, spec, roles)
    for name in (*CLIENTS, "stranger"):
        assert opened.run(rows.get(name)) == model.seen.get(name)
    assert opened.run(rows.seen_at()) == {name: one.seen_at for name, one in model.seen.items()}


def test_what_several_say_at_once_of_one_client_is_all_kept(records: Records) -> None:
    rows = Presence(records.database)
    records.run(rows.arrive("ann", None, {}, 0.0))
    holding = (partial(_hold, "ann", f"run-{number}", number, float(number)) for number in range(20))
    records.both(*map(records.database.transaction, holding))
    seen = records.run(rows.get("ann"))
    assert seen is not None
    assert seen.holds == {f"run-{number}": number for number in range(20)}
    assert (seen.seen_at, seen.parked, seen.gone) == (19.0, True, False)
