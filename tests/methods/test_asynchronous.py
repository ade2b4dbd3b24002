"""What an answer weighs that is some exchanges old; who may run so; and the same in one process."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from tests.methods.fleet import first_model, learners, run_settings, simulated
from thinwire.codecs import Array
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.definition import define
from thinwire.methods.reducers import Bounds
from thinwire.methods.simulation import Counted
from thinwire.methods.sums import ExactSum
from thinwire.methods.values import Contribution
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

BOUNDS = Bounds(clients=4, examples=100, value=8.0)


def of(value: float, examples: int, staleness: int, name: str = "w") -> Contribution:
    return Contribution(0, "c", examples, {name: np.array([value], np.float32)}, {}, staleness)


def mean(contributions: list[Contribution], **options: Any) -> Array:
    reducer = ExactSum(BOUNDS, **options)
    total = reducer.zero()
    for one in contributions:
        total = reducer.add(total, reducer.check(one))
    return total.mean("w")


def test_the_weight_of_an_answer_is_its_examples_over_the_root_of_one_plus_its_age() -> None:
    # 10 examples, new: 10. 30 examples, three exchanges old: 30 / sqrt(4) = 15. 16, eight old: 16 / 3.
    found = mean([of(1.0, 10, 0), of(2.0, 30, 3), of(-1.0, 16, 8)], aged=True)
    assert found[0] == pytest.approx((10 * 1 + 15 * 2 - 16 / 3) / (10 + 15 + 16 / 3), abs=1e-5)
    # Where all clients weigh the same: 1 and 1 / sqrt(2).
    found = mean([of(1.0, 7, 0), of(0.0, 90, 1)], weighting="uniform", aged=True)
    assert found[0] == pytest.approx(1 / (1 + 1 / math.sqrt(2)), abs=1e-5)


def test_where_nothing_is_stale_the_bits_are_those_of_rounds() -> None:
    draws = np.random.default_rng(0)
    for name in ("w", "buffers/w"):
        arrays = [draws.standard_normal(1000).astype(np.float32) for _ in range(4)]
        some = [Contribution(0, "c", 1 + 33 * index, {name: array}) for index, array in enumerate(arrays)]
        found = []
        for aged in (False, True):
            reducer, total = ExactSum(BOUNDS, aged=aged), ExactSum(BOUNDS, aged=aged).zero()
            for one in some:
                total = reducer.add(total, reducer.check(one))
            found.append(total.mean(name).tobytes())
        assert found[0] == found[1]


def test_any_order_and_any_tree_gives_the_same_bits() -> None:
    draws = np.random.default_rng(1)
    some = [
        Contribution(0, "c", 1 + index, {"w": draws.standard_normal(50).astype(np.float32)}, {}, index % 3)
        for index in range(4)
    ]
    reducer, found = ExactSum(BOUNDS, aged=True), set()
    for seed in range(6):
        random.Random(seed).shuffle(some)
        one, two = reducer.zero(), reducer.zero()
        for index, contribution in enumerate(some):
            if index % (1 + seed % 3):
                one = reducer.add(one, contribution)
            else:
                two = reducer.add(two, contribution)
        found.add(reducer.merge(one, two).mean("w").tobytes())
    assert len(found) == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another method": ({"method": "feddlr"}, "feddlr has no asynchronous runs: its answers belong to the exchange"),
    "masks": ({"method": "sparse_masks"}, "sparse_masks has no asynchronous runs"),
    "too few at work": ({"concurrency": 3}, "concurrency 3 is smaller than cohort 4"),
    "over-selection": ({"over-select": 1.5}, "over-select belongs to rounds"),
    "median": ({"reducer": "median"}, "median orders values and weighs none"),
    "budget": ({"max-bytes": 1000}, "max-bytes and max-bytes-per-round foretell a round"),
    "best": ({"best": "accuracy"}, "best needs every model measured by a cohort"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused_with_the_reason(case: str) -> None:
    settings, reason = REFUSED[case]
    with pytest.raises((ProblemError, ValueError), match=reason):
        define("run", RunSettings.model_validate({"cohort": 4, "max-staleness": 2, **settings}))


def test_concurrency_belongs_to_asynchronous_runs() -> None:
    with pytest.raises(ValueError, match="give max-staleness too"):
        RunSettings.model_validate({"concurrency": 3})
    assert RunSettings.model_validate({"cohort": 3, "max-staleness": 2}).kept_busy == 6


FLEET = learners(4, examples=100, hidden=(8,))
MODEL = first_model(FLEET)


def test_a_run_in_one_process_counts_in_the_order_in_which_it_asked_and_its_log_plays_it_again() -> None:
    """Also with residuals and deltas: each client takes up what it was told of its own last answer."""
    run = run_settings("fedavg", {"error-feedback": True}, cohort=2, rounds=4, uplink="quantise(2), zstd", **{
        "max-staleness": 2, "concurrency": 3,
    })  # fmt: skip
    found = simulated(run, FLEET, MODEL)
    log = [one.counted for one in found.exchanges[:-1]]
    ages = [[index - one.exchange for one in counted] for index, counted in enumerate(log)]
    # Three are at work: of the first exchange's, one is left over for the second, and so on.
    assert ages == [[0, 0], [1, 1], [1, 1], [1, 1]]
    assert len(found.exchanges[-1].contributors) == 2  # the evaluation asks anew
    again = simulated(run, FLEET, MODEL, counted=log)
    assert pack_state(again.state) == pack_state(found.state)
    assert [one.uplink_bytes for one in again.exchanges] == [one.uplink_bytes for one in found.exchanges]
    # What is measured is of the model that was sent, whenever the answer counts.
    asked = {one for counted in log for one in counted}
    for index, exchanged in enumerate(found.exchanges[:-1]):
        assert set(exchanged.metrics) == {one.client for one in asked if one.exchange == index}


def test_where_everybody_is_waited_for_it_is_the_run_of_rounds() -> None:
    rounds = run_settings("fedavg", cohort=4, rounds=3)
    buffered = run_settings("fedavg", cohort=4, rounds=3, concurrency=4, **{"max-staleness": 5})
    assert pack_state(simulated(buffered, FLEET, MODEL).state) == pack_state(simulated(rounds, FLEET, MODEL).state)


def test_a_log_that_cannot_be_is_refused() -> None:
    run = run_settings("fedavg", cohort=1, rounds=3, **{"max-staleness": 1})
    name = sorted(FLEET)[0]
    for log, why in (
        ([[Counted(name, 0)]], "nothing is said of what counted in exchange 1"),
        ([[Counted(name, 0)], [Counted(name, 2)]], "exchange 1 counts answers that are older"),
        ([[Counted(name, 0)], [Counted(name, 1)], [Counted(name, 0)]], "exchange 2 counts answers that are older"),
    ):
        with pytest.raises(ValueError, match=why):
            simulated(run, FLEET, MODEL, counted=log)
