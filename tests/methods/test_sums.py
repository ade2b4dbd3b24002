"""Laws of exact sums: no order, no tree and no split of the work changes a bit, and nothing overflows."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thinwire.codecs import Array, CodecError
from thinwire.methods.reducers import Bounds
from thinwire.methods.sums import ExactSum, Total, Weighting
from thinwire.methods.values import Contribution

BOUNDS = Bounds(clients=8, examples=1000, value=16.0)
SHIFT = math.floor(62 - math.log2(8 * 1000 * 16))


def answer(array: Array, examples: int = 1, name: str = "w") -> Contribution:
    return Contribution(0, "client", examples, {name: array})


values = st.floats(-16, 16, width=32)
contribution = st.builds(
    answer, hnp.arrays(np.float32, 5, elements=values), st.integers(1, 1000), st.sampled_from(["w", "b"])
)


def folded(reducer: ExactSum, answers: list[Contribution]) -> Total:
    total = reducer.zero()
    for one in answers:
        reducer.check(one)
        total = reducer.add(total, one)
    return total


def assert_equal(first: Total, second: Total) -> None:
    assert (first.count, first.weight, first.weights, first.shifts) == (
        second.count, second.weight, second.weights, second.shifts,
    )  # fmt: skip
    assert first.sums.keys() == second.sums.keys()
    for name in first.sums:
        np.testing.assert_array_equal(first.sums[name], second.sums[name])


@given(st.lists(contribution, min_size=1, max_size=8), st.randoms(), st.sampled_from(["examples", "uniform"]))
def test_every_order_and_tree_gives_the_same_total(
    answers: list[Contribution], random: object, weighting: Weighting
) -> None:
    reducer = ExactSum(BOUNDS, weighting)
    expected = folded(reducer, answers)
    shuffled = list(answers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert_equal(folded(reducer, shuffled), expected)
    totals = [folded(reducer, [one]) for one in shuffled]
    while len(totals) > 1:
        at = random.randrange(len(totals) - 1)  # type: ignore[attr-defined]
        totals[at : at + 2] = [reducer.merge(totals[at], totals[at + 1])]
    assert_equal(totals[0], expected)
    assert_equal(reducer.merge(reducer.zero(), folded(reducer, answers)), expected)
    assert_equal(reducer.merge(folded(reducer, answers), reducer.zero()), expected)


@given(st.lists(contribution, min_size=1, max_size=8))
def test_each_addend_is_rounded_once(answers: list[Contribution]) -> None:
    total = folded(ExactSum(BOUNDS), answers)
    for name in total.sums:
        mine = [one for one in answers if name in one.arrays]
        for index in range(5):
            exact = sum((one.examples * Fraction(float(one.arrays[name][index])) for one in mine), Fraction(0))
            found = Fraction(int(total.sums[name][index]), 2**SHIFT)
            assert abs(found - exact) <= Fraction(len(mine), 2 ** (SHIFT + 1))
        weight = sum(one.examples for one in mine)
        assert total.weights[name] == weight
        np.testing.assert_array_equal(total.mean(name), total.sum(name) / weight)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("bounds", [BOUNDS, Bounds(1, 1, 1e12), Bounds(1_000_000, 1 << 30, 1e12), Bounds(1, 1, 1e-6)])
def test_a_full_exchange_at_the_bounds_does_not_overflow(bounds: Bounds, sign: int) -> None:
    reducer = ExactSum(bounds)
    largest = answer(np.array([sign * bounds.value]), bounds.examples)
    reducer.check(largest)
    total = reducer.add(reducer.zero(), largest)
    # All other clients at once: integers, so that nothing is lost on the way.
    assert abs(int(total.sums["w"][0])) * bounds.clients <= 2**62 * (1 + 2**-50)
    assert total.mean("w")[0] == pytest.approx(sign * bounds.value, rel=1e-9)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 16.1, -17.0])
def test_what_is_not_finite_or_out_of_bounds_is_refused(value: float, dtype: str) -> None:
    array = np.array([0.0, value, 1.0], dtype)
    for bounds in (BOUNDS, Bounds(8, 1000, 1e12)):
        if math.isfinite(value) and bounds is not BOUNDS:
            ExactSum(bounds).check(answer(array))
        else:
            with pytest.raises(CodecError, match="out-of-range"):
                ExactSum(bounds).check(answer(array))


@pytest.mark.parametrize("examples", [0, -1, 1001])
def test_a_weight_beyond_the_bounds_is_refused(examples: int) -> None:
    with pytest.raises(CodecError, match="out-of-range"):
        ExactSum(BOUNDS).check(answer(np.zeros(3, np.float32), examples))


@given(st.lists(st.tuples(st.integers(1, 1000), hnp.arrays(np.uint8, 4)), min_size=1, max_size=8))
def test_integers_are_summed_as_they_are(pairs: list[tuple[int, Array]]) -> None:
    total = folded(ExactSum(BOUNDS), [answer(array, examples) for examples, array in pairs])
    expected = sum(examples * array.astype(object) for examples, array in pairs)
    np.testing.assert_array_equal(total.sums["w"], np.asarray(expected, np.int64))
    votes = folded(ExactSum(BOUNDS, "uniform"), [answer(array > 100, examples) for examples, array in pairs])
    np.testing.assert_array_equal(votes.sums["w"], np.sum([array > 100 for _, array in pairs], 0))


def test_an_integer_whose_sum_could_overflow_is_refused() -> None:
    largest = (1 << 62) // (8 * 1000)
    ExactSum(BOUNDS).check(answer(np.array([largest, -largest])))
    for beyond in (np.array([largest + 1]), np.array([-largest - 1]), np.array([2**64 - 1], np.uint64)):
        with pytest.raises(CodecError, match="out-of-range"):
            ExactSum(BOUNDS).check(answer(beyond))


def test_blocks_and_strides_do_not_show() -> None:
    array = np.random.default_rng(0).standard_normal((700, 800)).astype(np.float32)
    whole = folded(ExactSum(BOUNDS), [answer(array.T, 3)])
    expected = np.rint(array.T.astype(np.float64) * 3 * 2.0**SHIFT).astype(np.int64)
    np.testing.assert_array_equal(whole.sums["w"], expected)


def test_arrays_of_no_elements_and_no_dimensions() -> None:
    arrays = {"empty": np.zeros((0, 3), np.float32), "scalar": np.array(0.5, np.float32)}
    total = folded(ExactSum(BOUNDS), [Contribution(0, "client", 2, arrays)])
    assert total.sums["empty"].shape == (0, 3)
    assert total.mean("scalar").shape == ()
    assert total.mean("scalar") == 0.5
