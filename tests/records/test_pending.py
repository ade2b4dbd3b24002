"""Devices that wait to be let in: one place each, so many at most; they are told what an operator decides."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from tests.records.house import NOW, House
from thinwire.coordinator.records.clients import Clients
from thinwire.coordinator.records.pending import LAPSES_S, LONGEST_S, Pending, Standing
from thinwire.protocol.reasons import ProblemError

MOST = 10


class Door:
    def __init__(self, house: House) -> None:
        self.house = house
        self.rows = Pending(house.records.database)
        self._codes = 0

    def ask(self, secret: int, now: float = NOW, name: str = "ward", address: str = "192.0.2.1") -> Standing:
        self._codes += 1
        asked = self.rows.ask(bytes([secret]) * 32, f"CODE{self._codes:04}", name, "says", address, now, MOST)
        return self.house.do(asked)

    def codes(self, now: float = NOW) -> list[str]:
        return [one.code for one in self.house.do(self.rows.list(now))]

    def reason(self, call: Awaitable[object]) -> str:
        with pytest.raises(ProblemError) as caught:
            self.house.do(call)  # type: ignore[arg-type]
        return caught.value.reason

    def enrol(self, secret: int, now: float = NOW) -> str:
        """The name it enrols under."""
        enrolling = Clients(self.house.records.database).enrol("ward", bytes([secret]) * 32, b"t" * 32, now, 100)
        client = self.house.do(enrolling)
        return f"{client.name}/{client.group}/{client.role}"


@pytest.fixture
def door(house: House) -> Door:
    return Door(house)


def test_a_device_keeps_its_code_for_as_long_as_it_asks(door: Door) -> None:
    first = door.ask(1)
    assert (first.code, first.is_new, first.accepted) == ("CODE0001", True, False)
    for late in range(1, 5):
        again = door.ask(1, NOW + late * (LAPSES_S - 1))
        assert (again.code, again.is_new) == ("CODE0001", False)
    silent = NOW + 4 * (LAPSES_S - 1) + LAPSES_S
    assert door.codes(silent - 1) == ["CODE0001"]
    assert door.codes(silent) == []
    assert door.ask(1, silent).code == "CODE0006"
    for at in range(int(silent), int(silent + LONGEST_S), 800):
        assert door.ask(1, at).code == "CODE0006"
    assert door.ask(1, silent + LONGEST_S).is_new


def test_accepted_means_that_its_own_invite_is_in_force_for_one_use(door: Door) -> None:
    door.ask(1)
    assert door.reason(Clients(door.house.records.database).enrol("ward", b"\1" * 32, b"t" * 32, NOW, 9)) == (
        "invite-invalid"
    )
    waiting = door.house.do(door.rows.accept("CODE0001", "north", "evaluator", NOW))
    assert (waiting.name, waiting.says, waiting.address, waiting.invite_hash) == (
        "ward", "says", "192.0.2.1", b"\1" * 32,
    )  # fmt: skip
    assert door.codes() == []
    assert door.ask(1).accepted
    assert door.enrol(1) == "ward/north/evaluator"
    other = Clients(door.house.records.database).enrol("other", b"\1" * 32, b"u" * 32, NOW, 100)
    assert door.reason(other) == "invite-invalid"
    assert door.ask(1).accepted  # its answer may have been lost
    assert door.reason(door.rows.accept("CODE0001", "north", "client", NOW)) == "not-found"


def test_one_that_comes_too_late_asks_again(door: Door) -> None:
    door.ask(1)
    door.house.do(door.rows.accept("CODE0001", "north", "client", NOW))
    late = NOW + LONGEST_S
    assert door.reason(Clients(door.house.records.database).enrol("ward", b"\1" * 32, b"t" * 32, late, 9)) == (
        "invite-invalid"
    )
    assert door.ask(1, late).code == "CODE0002"
    door.house.do(door.rows.accept("CODE0002", "south", "client", late))
    assert door.enrol(1, late) == "ward/south/client"


def test_a_refused_one_is_told_so_and_is_on_the_list_no_more(door: Door) -> None:
    door.ask(1)
    door.house.do(door.rows.refuse("CODE0001", NOW))
    assert door.codes() == []
    for at in (NOW, NOW + LAPSES_S, NOW + LONGEST_S - 1):
        assert door.ask(1, at) == Standing(accepted=False)
    assert door.reason(door.rows.accept("CODE0001", "north", "client", NOW)) == "not-found"
    assert door.ask(1, NOW + LONGEST_S).is_new


def test_a_name_that_is_taken_lets_nobody_in(door: Door) -> None:
    door.house.enrol("ward")
    door.ask(1)
    assert door.reason(door.rows.accept("CODE0001", "north", "client", NOW)) == "name-taken"
    assert door.codes() == ["CODE0001"]


def test_strangers_cannot_fill_more_than_their_part(door: Door) -> None:
    """One address holds a fifth of the list at most; all of them no more than the list."""

    def asks(secret: int, address: str, now: float = NOW) -> str:
        try:
            return door.ask(secret, now, address=address).code or ""
        except ProblemError as error:
            return error.reason

    said = [asks(secret, f"192.0.2.{secret // 3}") for secret in range(30)]
    assert said.count("too-many-requests") == 30 - MOST
    assert len({code for code in said if code.startswith("CODE")}) == MOST == len(door.codes())
    assert [asks(0, "192.0.2.0") == said[0], asks(99, "192.0.2.99")] == [True, "too-many-requests"]
    assert asks(99, "192.0.2.99", NOW + LAPSES_S).startswith("CODE")
