"""Robust reducers: hand numbers, the laws of a reducer, memory, and what hostile clients can and cannot do."""

from __future__ import annotations

import math
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.fleet import client_of, first_model, learners, run_settings
from thinwire.codecs import Array, Arrays, CodecError
from thinwire.edge_client.learner import Learner
from thinwire.methods import robust
from thinwire.methods.definition import define
from thinwire.methods.reducers import Bounds, Robust, trimmed
from thinwire.methods.robust import BoundedNorm, OrderStatistic, l2_norm, reducer_of
from thinwire.methods.server_half import RunFacts
from thinwire.methods.simulation import Participant, simulate
from thinwire.methods.sums import ExactSum, Lazy, Means
from thinwire.methods.values import EVALUATE, Answer, Contribution, Outcome, Task
from thinwire.protocol.reasons import ProblemError

BOUNDS = Bounds(clients=16, examples=100)
MEDIAN = OrderStatistic(BOUNDS, "median", 0.1)


def trimming(trim: float) -> OrderStatistic:
    return OrderStatistic(BOUNDS, "trimmed-mean", trim)


def answer(slot: int, *arrays: Any, examples: int = 1) -> Contribution:
    named = {f"w{index}": np.asarray(array, np.float32) for index, array in enumerate(arrays)}
    return Contribution(slot, f"client-{slot}", examples, named)


def total_of(reducer: Any, answers: list[Contribution]) -> Means:
    total = reducer.zero()
    for one in answers:
        total = reducer.add(total, reducer.check(one))
    return total  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("reducer", "columns", "expected"),
    [
        (MEDIAN, [[3], [1], [1000]], [3]),
        (MEDIAN, [[1, -5], [2, 0], [4, 0.5], [900, 7]], [3, 0.25]),
        (MEDIAN, [[2]], [2]),
        (trimming(0.25), [[1], [2], [4], [900]], [3]),
        (trimming(0.2), [[-900], [1], [2], [6], [900]], [3]),
        # floor(0.2 * 4) = 0: nobody is left out.
        (trimming(0.2), [[1], [2], [4], [9]], [4]),
        (trimming(0.49), [[1], [5]], [3]),
    ],
)
def test_numbers_by_hand(reducer: OrderStatistic, columns: list[list[float]], expected: list[float]) -> None:
    total = total_of(reducer, [answer(slot, row) for slot, row in enumerate(columns)])
    assert total.names == ["w0"]
    assert total.mean("w0").tolist() == expected


def test_every_client_counts_the_same_whatever_it_claims() -> None:
    honest = [answer(0, [1.0]), answer(1, [2.0])]
    loud = answer(2, [9.0], examples=100)
    assert total_of(MEDIAN, [*honest, loud]).mean("w0").tolist() == [2.0]
    assert total_of(trimming(0.4), [*honest, loud]).mean("w0").tolist() == [2.0]


@given(st.integers(1, 1000), st.floats(0, 0.5, exclude_min=True, exclude_max=True))
def test_a_trimmed_mean_leaves_out_at_most_its_share_and_keeps_one(count: int, trim: float) -> None:
    left_out = trimmed(count, trim)
    assert 0 <= left_out <= trim * count
    assert count - 2 * left_out >= 1


VALUES = st.sampled_from([-0.0, 0.0, 1.0, -1.0, 0.1, 3.5, 2.0**-149])


@given(
    st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=7),
    st.randoms(use_true_random=False),
    st.sampled_from([MEDIAN, trimming(0.1), trimming(0.3)]),
)
def test_any_order_and_any_tree_give_the_same_bits(rows: list[list[float]], random: Any, reducer: Any) -> None:
    answers = [answer(slot, row, row[:2]) for slot, row in enumerate(rows)]
    expected = total_of(reducer, answers)
    shuffled = list(answers)
    random.shuffle(shuffled)
    at = random.randint(0, len(shuffled))
    merged = reducer.merge(total_of(reducer, shuffled[:at]), total_of(reducer, shuffled[at:]))
    for name in ("w0", "w1"):
        assert merged.mean(name).tobytes() == expected.mean(name).tobytes()


def test_an_array_counts_among_those_who_hold_it() -> None:
    total = total_of(MEDIAN, [answer(0, [1.0], [5.0]), answer(1, [3.0]), answer(2, [8.0], [7.0])])
    assert (total.mean("w0").tolist(), total.mean("w1").tolist()) == ([3.0], [6.0])


def test_a_scalar_and_an_empty_array_have_their_shapes() -> None:
    total = total_of(MEDIAN, [answer(slot, slot, np.zeros((0, 3))) for slot in range(3)])
    assert total.mean("w0").shape == ()
    assert total.mean("w0") == 1
    assert total.mean("w1").shape == (0, 3)


def test_memory_depends_on_the_block_and_not_on_the_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, clients = 50_000, 60
    total = MEDIAN.zero()
    for slot in range(clients):
        held = np.memmap(tmp_path / str(slot), np.float32, "w+", shape=(size,))
        held[:] = slot
        total = MEDIAN.add(total, Contribution(slot, str(slot), 1, {"w": held}))
    monkeypatch.setattr(robust, "_BLOCK_BYTES", 1 << 20)
    tracemalloc.start()
    found = total.mean("w")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.tolist() == [29.5] * size
    # The result, the rows of one block, and what sorting and adding them takes; all rows would be 24 MB.
    assert peak < 8 * size + 3 * (1 << 20)


# -- norms ------------------------------------------------------------------------------------------------------


def test_a_norm_by_hand() -> None:
    assert l2_norm({"a": np.array([3.0], np.float32), "b": np.array([[0.0, 4.0]]), "n": np.array([100])}) == 5.0
    assert l2_norm({}) == 0.0


@given(st.lists(st.floats(-1000, 1000, width=32), max_size=50), st.integers(0, 70_000))
def test_a_norm_is_exact_to_rounding(values: list[float], zeros: int) -> None:
    array = np.concatenate([np.zeros(zeros, np.float32), np.array(values, np.float32)])
    assert l2_norm({"w": array}) == pytest.approx(math.sqrt(math.fsum(value * value for value in values)), rel=1e-12)


def test_what_is_beyond_the_norm_is_scaled_down_to_it_or_refused() -> None:
    clipping = BoundedNorm(ExactSum(BOUNDS), 5.0, refuse=False)
    inside = answer(0, [3.0], [4.0])
    assert clipping.check(inside) is inside
    clipped = clipping.check(answer(0, [30.0], [40.0], examples=7))
    assert (clipped.arrays["w0"].tolist(), clipped.arrays["w1"].tolist()) == ([3.0], [4.0])
    assert (clipped.examples, clipped.arrays["w0"].dtype) == (7, np.float32)
    with pytest.raises(CodecError, match=r"norm 50; the run takes 5"):
        BoundedNorm(ExactSum(BOUNDS), 5.0, refuse=True).check(answer(0, [30.0], [40.0]))


@pytest.mark.parametrize("reducer", [MEDIAN, BoundedNorm(MEDIAN, 1.0, refuse=False)])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
def test_what_a_sum_refuses_is_refused(reducer: Any, value: float) -> None:
    with pytest.raises(CodecError, match="within"):
        reducer.check(answer(0, [value]))


# -- which methods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "settings"), [("fedavg", {}), ("progfed", {}), ("feddlr", {}), ("fedavg", {"server-optimizer": "adam"})]
)
def test_a_method_that_averages_updates_takes_them(method: str, settings: dict[str, Any]) -> None:
    server = define("run", run_settings(method, settings, reducer="trimmed-mean", trim=0.2, max_norm=2.0)).server
    assert isinstance(server.reducer, BoundedNorm)
    assert server.reducer.keeps


@pytest.mark.parametrize(
    ("method", "settings"), [("sparse_masks", {}), ("feddkd", {}), ("feddlr", {"object": "weights"})]
)
@pytest.mark.parametrize("wanted", [{"reducer": "median"}, {"max_norm": 1.0}])
def test_another_method_refuses_with_a_reason(method: str, settings: dict[str, Any], wanted: dict[str, Any]) -> None:
    with pytest.raises(ProblemError, match=f"{method} takes no reducer but the mean"):
        define("run", run_settings(method, settings, **wanted))
    define("run", run_settings(method, settings, reducer="mean"))


def test_the_mean_stays_the_exact_sum() -> None:
    reducer = reducer_of(RunFacts(1, 0, BOUNDS, Robust.of(run_settings("fedavg"))), "examples")
    assert isinstance(reducer, ExactSum)
    assert not reducer.keeps


def test_behind_a_bounded_norm_a_claim_buys_no_weight() -> None:
    facts = RunFacts(1, 0, BOUNDS, Robust.of(run_settings("fedavg", max_norm=2.0)))
    reducer = reducer_of(facts, "examples")
    loud = reducer.check(answer(1, [-30.0], examples=BOUNDS.examples))
    assert total_of(reducer, [answer(0, [1.0]), loud]).mean("w0").tolist() == [-0.5]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"reducer": "trimmed-mean", "cohort": 8}, "leaves out nobody.*trim=0.125 "),
        ({"reducer": "trimmed-mean", "cohort": 10}, None),
        ({"reducer": "trimmed-mean", "cohort": 3, "trim": 0.3}, "trim=0.334 "),
        ({"reducer": "trimmed-mean", "cohort": 2, "trim": 0.49}, "at least 3"),
        ({"reducer": "median", "cohort": 2}, "at least 3"),
        ({"reducer": "median", "cohort": 1}, "at least 3"),
        ({"reducer": "median"}, None),
        ({"max_norm": 1e5}, "max-norm 100000 bounds nothing.* longer than 2048"),
        ({"max_norm": 2.0}, None),
        ({"cohort": 1}, None),
    ],
)
def test_a_guard_that_guards_nothing_is_refused_when_the_run_is_made(wanted: dict[str, Any], said: str | None) -> None:
    run = run_settings("fedavg", **wanted)
    definition = define("run", run)  # of before, which goes on
    model = {"w": np.zeros((2, 2), np.float32)}
    if said is None:
        assert definition.first_state(model).round == 1
        return
    with pytest.raises(ProblemError, match=f"run-invalid.*{said}") as refused:
        definition.first_state(model)
    assert "guards nothing" in " ".join(definition.warnings) or run.reducer is None
    suggested = re.search(r"trim=(0\.\d+) ", refused.value.detail)
    if suggested is not None:
        cured = run.model_copy(update={"trim": float(suggested[1])})
        assert define("run", cured).first_state(model).round == 1
        assert trimmed(run.cohort, float(suggested[1])) == 1


@pytest.mark.parametrize(
    ("method", "settings", "wanted", "said"),
    [
        ("fedavg", {}, {"reducer": "trimmed-mean", "cohort": 10}, None),
        ("fedavg", {}, {"reducer": "trimmed-mean", "cohort": 10, "quorum": 8}, "quorum of 8 .*trim=0.125 "),
        ("progfed", {}, {"reducer": "median", "quorum": 2}, "quorum of 2 .*quorum=3"),
        ("fedavg", {}, {"reducer": "median", "quorum": 3}, None),
        ("feddlr", {}, {"max_norm": 2.0}, "max-norm lets every client count the same"),
        ("fedavg", {"weighting": "uniform"}, {"max_norm": 2.0}, None),
        ("fedavg", {}, {"max_norm": 2.0, "reducer": "median"}, None),
        ("fedavg", {}, {}, None),
    ],
)
def test_a_guard_that_guards_less_than_it_seems_is_told_of(
    method: str, settings: dict[str, Any], wanted: dict[str, Any], said: str | None
) -> None:
    warnings = define("run", run_settings(method, settings, **wanted)).warnings
    assert len(warnings) == (said is not None)
    assert re.search(said or "", " ".join(warnings))


def test_lazy_arrays_are_a_mapping() -> None:
    lazy = Lazy(["a", "b"], lambda name: np.array(len(name)))
    assert (list(lazy), len(lazy), "c" in lazy) == (["a", "b"], 2, False)
    assert lazy["b"] == 1


# -- hostile clients --------------------------------------------------------------------------------------------

CLIENTS, HOSTILE = 7, 2
Attack = Callable[[Array, np.random.Generator], Array]
ATTACKS: dict[str, Attack] = {
    "sign-flip": lambda array, _: -5 * array,
    "scaling": lambda array, _: 25 * array,
    "noise": lambda array, random: random.normal(0, 2, array.shape),
}


@dataclass
class Byzantine:
    """A client that trains, and then sends something else."""

    half: Any
    attack: Attack

    def needs(self) -> frozenset[Any]:
        return frozenset()

    def check(self, task: Task, learner: Learner) -> None:
        self.half.check(task, learner)

    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        outcome: Outcome = self.half.perform(task, memory, learner)
        if task.kind == EVALUATE:
            return outcome
        random = np.random.default_rng(learner.seed)
        arrays = {name: self.attack(array, random).astype(array.dtype) for name, array in outcome.answer.arrays.items()}
        return replace(outcome, answer=Answer(arrays, outcome.answer.examples, outcome.answer.metrics))


@cache
def trained(attack: str | None, **wanted: Any) -> float:
    """The accuracy after six rounds in which two clients of seven are hostile."""
    run = run_settings("fedavg", {"lr": 0.1, "batch-size": 10}, rounds=6, cohort=CLIENTS, chains="plain", **wanted)
    half, participants = client_of("fedavg", run.settings), {}
    fleet = learners(CLIENTS, examples=420, architecture="mlp")
    for index, (name, learner) in enumerate(fleet.items()):
        bad = attack is not None and index < HOSTILE
        participants[name] = Participant(Byzantine(half, ATTACKS[str(attack)]) if bad else half, learner)  # type: ignore[arg-type]
    try:
        return simulate(run, first_model(fleet), participants).exchanges[-1].mean("accuracy")
    except CodecError:
        return 0.0  # the model has been driven so far that what honest clients make of it is out of all bounds


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_the_mean_falls_to_two_hostile_clients_and_order_statistics_do_not(attack: str) -> None:
    undisturbed = trained(None)
    assert undisturbed > 0.7
    assert trained(attack) < undisturbed - 0.3
    assert trained(attack, reducer="median") > undisturbed - 0.2
    assert trained(attack, reducer="trimmed-mean", trim=0.3) > undisturbed - 0.2


@pytest.mark.parametrize("attack", ["scaling", "noise"])
@pytest.mark.parametrize("reducer", ["mean", "median"])
def test_a_bounded_norm_takes_the_force_out_of_large_updates(attack: str, reducer: str) -> None:
    assert trained(attack, reducer=reducer, max_norm=1.0) > trained(None) - 0.2
