"""Budgets while a run is led: who is left out and what is lowered stands in rows, and a restart changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.lead.house import House
from tests.lead.test_leader import ONE, THREE, TWO, play, ready
from thinwire.codecs import Chain
from thinwire.coordinator.runs.rows import ExchangeRow
from thinwire.coordinator.runs.views import exchange_metrics, run_view
from thinwire.methods.chains import size_of
from thinwire.methods.definition import define
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

DAY_S = 86_400.0


def spend(house: House, run: str, exchange: int | None, name: str, payload: int) -> None:
    house.ledger.record((run, name, exchange, "answer"), Bytes(1, payload, 0, 0, 0))


async def row_of(house: House, run: str, exchange: int) -> ExchangeRow:
    row = await house.exchanges.get(run, exchange)
    assert row is not None
    return row


async def until_out(house: House, run: str, exchange: int) -> ExchangeRow:
    async with asyncio.timeout(60):
        with house.signals.subscribe(f"events:{run}") as heard:
            while (row := await house.exchanges.get(run, exchange)) is None or not row.left_out:
                await heard.wait()
    return row


def test_whoever_has_spent_its_day_is_left_out_until_the_next_one(tmp_path: Path) -> None:
    async def first(house: House) -> tuple[str, str]:
        run = await ready(house, ONE, TWO, rounds=3, cohort=1, **{"max-bytes-per-day": 1000})
        name = await house.first(ONE, TWO)
        other = TWO if name == ONE else ONE
        spend(house, run, 0, name, 600)
        assert await house.answer(name, await house.task(name)) == "accepted"
        # Whoever was first would need 600 again: the other one is asked.
        task = await house.task(other)
        row = await until_out(house, run, 1)
        why = "max-bytes-per-day: 600 B of 1.00 kB are spent, and its part takes 600 B"
        assert row.left_out == {name: why}
        view = run_view(await house.runs.get(run), None, row, [])
        assert view.left_out == {name: why}
        spend(house, run, 1, other, 500)
        spend(house, run, None, other, 700)
        assert await house.answer(other, task) == "accepted"
        row = await until_out(house, run, 2)
        assert row.left_out is not None
        assert row.left_out.keys() == {ONE, TWO}
        said = await house.until_said(run)
        assert said.reason is not None
        assert f"{other} is left out: max-bytes-per-day: 1.20 kB of 1.00 kB are spent" in said.reason
        return name, other

    name, other = play(tmp_path, first)

    async def second(house: House) -> None:
        """After a restart they are left out as before, until the day is over."""
        house.now = 2000.0
        await house.come(ONE, TWO)
        row = await until_out(house, "run000", 2)
        assert (row.left_out or {}).keys() == {name, other}
        assert await house.tasks.of("run000", 2) == []
        house.now = DAY_S + 5
        await house.come(ONE)
        task = await house.task(ONE)
        assert not (await row_of(house, "run000", 2)).left_out
        assert await house.answer(ONE, task) == "accepted"
        assert (await house.until("run000", lambda row: row.finished)).outcome == "completed"

    play(tmp_path, second)


def test_a_cohort_and_bits_are_lowered_so_that_the_budget_lasts_and_a_restart_keeps_them(tmp_path: Path) -> None:
    """10 MB for three rounds, of which the first takes 4.8: 2.6 are left for each of two."""
    budgets: dict[str, Any] = {"max-bytes": 10_000_000, "least-bits": 3, "least-cohort": 2}
    sizes = {bits: size_of(Chain.parse(f"quantise({bits}), zstd")) for bits in range(3, 9)}
    bits = max(one for one, size in sizes.items() if 4_800_000 * size / sizes[8] < 2_600_000)
    assert 3 < bits < 8
    # Of the second round, each client takes so much that with three bits two and a half of them are paid for.
    each = int(5_200_000 / (3 + 2.5 * sizes[3] / sizes[bits]))

    async def opened(house: House, exchange: int) -> ExchangeRow:
        async with asyncio.timeout(60):
            while (row := await house.exchanges.get("run000", exchange)) is None:
                await asyncio.sleep(0)
        return row

    async def answer(house: House, exchange: int, payload: int) -> None:
        for name in (ONE, TWO, THREE):
            spend(house, "run000", exchange, name, payload)
        for name in (ONE, TWO, THREE):
            assert await house.answer(name, await house.task(name)) == "accepted"

    async def begin(house: House) -> bytes:
        await ready(house, ONE, TWO, THREE, rounds=3, cohort=3, uplink="quantise(8), zstd", **budgets)
        await answer(house, 0, 1_600_000)
        row = await opened(house, 1)
        assert (row.lowered_bits, row.lowered_cohort, row.size) == (bits, None, 3)
        return row.plan

    plan = play(tmp_path, begin)

    async def go_on(house: House) -> None:
        await house.come(ONE, TWO, THREE)
        row = await opened(house, 1)
        assert (row.lowered_bits, row.plan) == (bits, plan)
        await answer(house, 1, each)
        row = await opened(house, 2)
        assert (row.lowered_bits, row.lowered_cohort, row.size) == (3, 2, 2)
        assert exchange_metrics(row, Bytes(), Bytes()).lowered == "at most 3 bits and a cohort of 2"

    play(tmp_path, go_on)


def test_bits_that_lower_nothing_are_refused() -> None:
    for chain in ("byte_shuffle, zstd", "quantise(8)", 'quantise(8, per="bundle", spread=3.0), entropy'):
        wanted = RunSettings.model_validate({"uplink": chain, "least-bits": 2, "max-bytes": 1000, "chains": "plain"})
        with pytest.raises(ProblemError, match="no chain of this run has it"):
            define("run000", wanted)
