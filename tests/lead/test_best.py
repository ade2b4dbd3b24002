"""What a run's best models are made of stays while it lasts, whoever leads it; their files stay when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.coordinator.numpy_client import simulate
from tests.coordinator.served import model
from tests.lead.house import House
from tests.lead.test_leader import ONE, RUN, TWO, play, ready
from thinwire.coordinator.objects.objects import checkpoint, payload
from thinwire.coordinator.objects.partial import Partials
from thinwire.coordinator.runs.rows import RunRow
from thinwire.coordinator.serve.models import CurrentModel, Models
from thinwire.coordinator.serve.quotas import Limits, Quotas
from thinwire.methods.model_file import read_model
from thinwire.protocol.reasons import ProblemError

SETTINGS = {"delta": True}


def is_past(row: RunRow, exchange: int) -> bool:
    return row.exchange > exchange


async def measure(house: House, run: str, told: Sequence[Mapping[str, float]]) -> RunRow:
    """Exchanges in which both clients tell this of the models that they got."""
    for metrics in told:
        exchange = (await house.runs.get(run)).exchange
        for name in (ONE, TWO):
            task = await house.task(name)
            while task.exchange != exchange:
                task = await house.task(name, task.id)
            assert await house.answer(name, task, **metrics) == "accepted"
        row = await house.until(run, partial(is_past, exchange=exchange))
    return row


def test_the_best_model_is_protected_over_restarts_and_is_a_file_in_the_end(tmp_path: Path) -> None:
    async def begin(house: House) -> None:
        run = await ready(house, ONE, TWO, rounds=5, settings=SETTINGS)
        row = await measure(house, run, [{"accuracy": value} for value in (0.25, 0.75, 0.75)])
        assert [(one.score, one.value, one.exchange, one.round) for one in row.best] == [("accuracy", 0.75, 1, 1)]

    async def go_on(house: House) -> None:
        await house.come(ONE, TWO)
        assert (await measure(house, RUN, [{"accuracy": 0.1}])).best[0].exchange == 1
        await house.task(ONE)  # the next exchange is open: what the last one left is swept behind that
        async with asyncio.timeout(60):
            while house.objects.names(f"checkpoints/{RUN}") != [checkpoint(RUN, index) for index in (1, 3, 4)]:
                await asyncio.sleep(0)
        await measure(house, RUN, [{"accuracy": 0.3}])
        row = await house.until(RUN, lambda row: row.finished)
        await house.led_no_more(RUN)
        (best,) = row.best
        assert best.model is not None
        assert row.model is not None
        assert set(house.objects.names(f"payloads/{RUN}")) == {payload(RUN, best.model), payload(RUN, row.model)}
        assert house.objects.names(f"checkpoints/{RUN}") == [checkpoint(RUN, index) for index in (4, 5)]
        found = read_model(house.objects.local(payload(RUN, best.model)))
        expected = simulate(model(5), 0, [[ONE, TWO]], SETTINGS, 1)
        assert list(found) == list(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)

    play(tmp_path, begin)
    play(tmp_path, go_on)


def test_it_can_be_had_while_the_run_lasts(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        models = Models(
            house.runs, house.exchanges, house.definitions, house.objects, Partials(tmp_path),
            Quotas(Limits(1, 1, 1), lambda: 0), house.workers, max_bytes=1, promised=lambda: 0,
        )  # fmt: skip
        run = await ready(house, ONE, TWO, rounds=3, settings=SETTINGS)
        with pytest.raises(ProblemError) as caught:
            await models.best(run, "")
        assert caught.value.reason == "no-global-model"
        (best,) = (await measure(house, run, [{"loss": 3.0}, {"loss": 1.0}])).best
        assert (best.score, best.round) == ("loss", 1)
        found = await models.best(run, "loss")
        assert isinstance(found, CurrentModel)
        house.objects.delete([checkpoint(run, best.exchange)])
        with pytest.raises(ProblemError) as caught:
            await models.best(run, "")
        assert caught.value.reason == "storage-failed"

    play(tmp_path, script)


def test_each_score_has_a_best_model_and_a_damaged_one_does_not_keep_a_run_from_its_end(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await ready(house, ONE, TWO, rounds=3, best="accuracy,-error")
        row = await measure(house, run, [{"accuracy": 0.9, "error": 5.0}, {"accuracy": 0.5, "error": 1.0}])
        assert [(one.score, one.round) for one in row.best] == [("accuracy", 0), ("error", 1)]
        house.objects.delete([checkpoint(run, 0)])
        await measure(house, run, [{"accuracy": 0.4, "error": 2.0}])
        row = await house.until(run, lambda row: row.finished)
        assert [(one.score, one.round) for one in row.best] == [("error", 1)]

    play(tmp_path, script)


def test_steps_within_a_round_measure_no_model_of_a_round(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await ready(house, ONE, TWO, rounds=2, settings={"steps": 2})
        row = await measure(house, run, [{"accuracy": value} for value in (0.25, 1.0, 0.5, 1.0)])
        assert [(one.value, one.exchange, one.round) for one in row.best] == [(0.5, 2, 1)]

    play(tmp_path, script)


def test_a_run_that_keeps_none_keeps_none(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await ready(house, ONE, TWO, rounds=2, best="none")
        assert (await measure(house, run, [{"accuracy": 0.9}, {"accuracy": 0.1}])).best == ()

    play(tmp_path, script)
