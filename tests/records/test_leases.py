"""Leases: one leader at a time, and whoever has lost the lease writes nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from tests.records.house import CLOSING, DELTA, MODEL, NOW, OPENED, PART, House
from thinwire.coordinator.records.leases import Lease, LeaseLostError
from thinwire.coordinator.records.presence import Presence
from thinwire.coordinator.records.tasks import NewTask

LED: dict[str, Callable[[House, Lease, str], Coroutine[Any, Any, Any]]] = {
    "set_state": lambda house, lease, task: house.runs.set_state(lease, "paused", "by the operator", NOW, damaged=True),
    "finish": lambda house, lease, task: house.runs.finish(lease, "stopped", None, MODEL, NOW),
    "open": lambda house, lease, task: house.exchanges.open(
        lease, replace(OPENED, exchange=1), [PART, DELTA], NOW
    ),
    "renew": lambda house, lease, task: house.exchanges.renew(lease, 0, 2, 60.0, [task], drop=True, now=NOW),
    "close": lambda house, lease, task: house.exchanges.close(lease, CLOSING, 1, 0, NOW),
    "save_clocks": lambda house, lease, task: house.exchanges.save_clocks(lease, 0, 9.0, 1.0, NOW),
    "offer": lambda house, lease, task: house.tasks.offer(lease, 0, [NewTask("new", 1, 1, "b", None)]),
    "verdict": lambda house, lease, task: house.tasks.verdict(lease, task, "accepted", None, None, 1, NOW),
}  # fmt: skip


@pytest.mark.parametrize("verb", LED)
def test_a_lost_lease_writes_nothing(house: House, verb: str) -> None:
    house.enrol("a", "b")
    lost = house.run()
    (task,) = house.exchange(lost, 0, "a")
    house.arrive(task, "a")
    lease = house.do(house.leases.acquire("run1", "another", None))
    assert lease is not None
    before = house.records.dump()
    for other in (lost, replace(lease, epoch=lease.epoch + 1), replace(lease, run="run2")):
        with pytest.raises(LeaseLostError):
            house.do(LED[verb](house, other, task))
        assert house.records.dump() == before
    house.do(LED[verb](house, lease, task))
    assert house.records.dump() != before


def test_a_lease_lost_in_the_same_group_writes_nothing(house: House) -> None:
    lease = house.run()
    works = [
        house.runs.set_state(lease, "paused", None, NOW),
        house.leases.acquire("run1", "another", None),
        house.runs.set_state(lease, "running", None, NOW),
    ]

    async def at_once() -> list[Any]:
        return await asyncio.gather(*works, return_exceptions=True)

    told = house.do(at_once())
    assert told[:2] == [None, Lease("run1", "another", lease.epoch + 1)]
    assert isinstance(told[2], LeaseLostError)
    assert house.do(house.runs.get("run1")).state == "paused"


def test_a_lease_is_granted_to_one_until_it_ends(house: House) -> None:
    """By the database's clock."""

    def acquire(holder: str, ttl_s: float) -> Lease | None:
        return house.do(house.leases.acquire("run1", holder, ttl_s))

    assert acquire("a", 1000.0) == Lease("run1", "a", 1, ends=True)
    assert acquire("b", 1000.0) is None
    assert acquire("a", 0.0) == Lease("run1", "a", 2, ends=True)  # its own
    assert acquire("b", 1000.0) == Lease("run1", "b", 3, ends=True)
    assert acquire("a", 1000.0) is None


def test_leases_go_on_while_their_holder_lives(house: House) -> None:
    first, second = house.run("run1"), house.run("run2", now=NOW + 1)
    assert house.do(house.leases.free()) == ["run1", "run2"]  # of a process that was alone
    assert house.do(house.leases.acquire("run1", "a", 0.0)) == Lease("run1", "a", first.epoch + 1, ends=True)
    assert house.do(house.leases.free()) == ["run1", "run2"]
    assert house.do(house.leases.beat("a", 1000.0)) == {"run1": first.epoch + 1}
    assert house.do(house.leases.free()) == ["run2"]
    assert house.do(house.leases.acquire("run1", "b", 1000.0)) is None
    assert house.do(house.leases.beat("b", 1000.0)) == {}
    assert house.do(house.leases.acquire("run2", "b", 1000.0)) == Lease("run2", "b", second.epoch + 1, ends=True)
    assert house.do(house.leases.free()) == []
    house.do(house.leases.leave("a"))
    assert house.do(house.leases.free()) == ["run1"]
    assert house.do(house.leases.acquire("run1", "b", 1000.0)) == Lease("run1", "b", first.epoch + 2, ends=True)
    assert house.do(house.leases.beat("a", 1000.0)) == {}
    with pytest.raises(LeaseLostError):
        house.do(house.runs.set_state(first, "paused", None, NOW))


@pytest.mark.parametrize("ends", ["dies", "leaves"])
def test_of_a_coordinator_that_lives_no_more_no_poll_waits(house: House, ends: str) -> None:
    house.enrol("x", "y", "z")
    database = house.records.database
    here, there = Presence(database, "a"), Presence(database, "b")
    for name in "xy":
        house.do(here.arrive(name, None, {}, NOW))
    house.do(there.arrive("y", None, {}, NOW))
    house.do(there.arrive("z", None, {}, NOW))
    house.do(here.leave({"y": True}, NOW))  # which waits elsewhere by now
    house.do(house.leases.beat("a", 0.0))
    if ends == "dies":
        house.do(house.leases.beat("b", 1000.0))
    else:
        house.do(house.leases.leave("a"))
    seen = {name: house.do(here.get(name)) for name in "xyz"}
    assert {name: one is not None and (one.parked, one.gone) for name, one in seen.items()} == {
        "x": (False, False), "y": (True, False), "z": (True, False),
    }  # fmt: skip


def test_a_lease_for_the_life_of_its_process_is_always_granted_again(house: House) -> None:
    """There is one process alone: whoever asks is its successor."""
    for epoch, holder in enumerate("abba", start=1):
        assert house.do(house.leases.acquire("run1", holder, None)) == Lease("run1", holder, epoch)


def test_the_leases_of_runs_are_apart(house: House) -> None:
    first, second = house.run("run1"), house.run("run2")
    assert (first.epoch, second.epoch) == (1, 1)
    house.do(house.leases.acquire("run1", "another", None))
    house.do(house.runs.set_state(second, "paused", None, NOW))
