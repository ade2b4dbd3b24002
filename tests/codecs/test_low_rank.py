"""Laws of `low_rank` and of the decompositions beneath it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.codecs import Array, Chain, CodecError, Context, Spec
from thinwire.codecs.decomposition import (
    EXACT,
    LARGEST_GRAM,
    factorise,
    fold,
    kept_rank,
    largest_rank,
    low_rank_names,
    multiply,
    truncated,
    unfold,
)
from thinwire.codecs.low_rank import LowRank

shapes = st.one_of(
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3)),
)
unfoldings = st.sampled_from(["channel", "spatial"])


def decaying(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.float32) -> Array:
    """An array whose matrix has a spectrum that falls."""
    random = np.random.default_rng(seed)
    rows, columns = shape[0], int(np.prod(shape[1:]))
    inner = min(rows, columns)
    scales = 0.6 ** np.arange(inner)
    left, right = random.standard_normal((rows, inner)), random.standard_normal((inner, columns))
    return ((left * scales) @ right).reshape(shape).astype(dtype)


@given(shapes, unfoldings)
def test_folding_undoes_unfolding(shape: tuple[int, ...], unfolding: Any) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    matrix = unfold(array, unfolding)
    assert matrix.ndim == 2
    np.testing.assert_array_equal(fold(matrix, shape, unfolding), array)


@given(shapes, unfoldings, st.floats(0.05, 1), st.integers(0, 1000))
def test_the_error_is_what_the_energy_leaves(shape: tuple[int, ...], unfolding: Any, energy: float, seed: int) -> None:
    array = decaying(shape, seed, np.float64)
    matrix = unfold(array, unfolding)
    left, right = factorise(matrix, energy)
    square = np.square(matrix).sum()
    assert np.square(matrix - left @ right).sum() <= (1 - energy) * square * (1 + 1e-9) + 1e-12 * square
    # Of the smallest rank: one less would lose more than allowed.
    values = np.linalg.svd(matrix, compute_uv=False)
    rank = left.shape[1]
    assert np.square(values[: rank - 1]).sum() < energy * square * (1 + 1e-9)
    # Balanced.
    np.testing.assert_allclose(np.square(left).sum(0), np.square(right).sum(1), rtol=1e-3)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (8, 4, 3, 3)])
def test_a_matrix_of_rank_one_comes_back_at_rank_one(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    matrix = np.outer(random.standard_normal(shape[0]), random.standard_normal(int(np.prod(shape[1:]))))
    left, right = factorise(matrix, EXACT)
    assert left.shape[1] == 1
    np.testing.assert_allclose(left @ right, matrix, rtol=1e-12, atol=1e-14)


def test_nothing_is_of_rank_zero() -> None:
    left, right = factorise(np.zeros((4, 6)), 0.9)
    assert (left.shape, right.shape) == ((4, 0), (0, 6))
    assert kept_rank(np.zeros(0), 0.9) == 0


def test_large_matrices_keep_the_energy_too() -> None:
    random = np.random.default_rng(0)
    side = LARGEST_GRAM + 30
    matrix = (random.standard_normal((side, 90)) * 0.95 ** np.arange(90)) @ random.standard_normal((90, side + 9))
    for energy in (0.5, 0.999):
        left, right = factorise(matrix, energy)
        assert np.square(matrix - left @ right).sum() <= (1 - energy) * np.square(matrix).sum() * (1 + 1e-9)
        exact = kept_rank(np.square(np.linalg.svd(matrix, compute_uv=False)), energy)
        assert exact <= left.shape[1] <= exact + 2
    assert factorise(matrix, 0.999, 5)[0].shape[1] == 5


@given(shapes.filter(lambda shape: len(shape) == 2), st.integers(0, 5))
def test_the_product_is_the_product(shape: tuple[int, int], rank: int) -> None:
    random = np.random.default_rng(0)
    left, right = random.standard_normal((shape[0], rank)), random.standard_normal((rank, shape[1]))
    np.testing.assert_allclose(multiply(left, right), left @ right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (LARGEST_GRAM + 6, LARGEST_GRAM + 40)])
def test_signs_are_fixed(shape: tuple[int, int]) -> None:
    """A direction and its opposite are one: what the library makes of their signs changes no byte."""
    matrix = decaying(shape, dtype=np.float64)
    left, right = factorise(matrix, 0.999)
    short = left if shape[0] <= shape[1] else right.T
    assert (short[np.abs(short).argmax(0), np.arange(short.shape[1])] > 0).all()
    opposite = factorise(-matrix, 0.999)
    np.testing.assert_array_equal(opposite[0] if shape[0] <= shape[1] else opposite[1].T, short)


def test_the_ends_and_the_named_stay_dense() -> None:
    arrays = {
        "norm": np.ones(9), "conv1": np.ones((9, 9, 3, 3)), "conv2": np.ones((9, 9, 3, 3)),
        "table": np.ones((9, 9), int), "fc": np.ones((9, 9)), "head": np.ones((9, 9)), "bias": np.ones(9),
    }  # fmt: skip
    spec = Spec.of(arrays)
    assert low_rank_names(spec) == ["conv2", "fc"]
    assert low_rank_names(spec, ("fc",)) == ["conv2"]
    assert low_rank_names(spec, ends=False) == ["conv1", "conv2", "fc", "head"]


@given(shapes, unfoldings, st.sampled_from([0.3, 0.9, 0.99]), st.sampled_from([0, 1, 3]))
def test_the_codec_truncates_where_it_pays(shape: tuple[int, ...], unfolding: Any, energy: float, cap: int) -> None:
    arrays = {"w": decaying(shape), "n": np.arange(6).reshape(2, 3), "b": np.ones(3, np.float32)}
    spec, codec = Spec.of(arrays), LowRank(energy, cap, ends=False, unfolding=unfolding)
    context = Context(spec)
    encoded = codec.encode(arrays, context)
    codec.encoded_spec(spec).check(encoded)
    decoded = codec.decode(encoded, context)
    for name in ("n", "b"):
        np.testing.assert_array_equal(decoded[name], arrays[name])
    assert sum(array.nbytes for array in encoded.values()) <= sum(array.nbytes for array in arrays.values())
    square = float(np.square(arrays["w"]).sum())
    if "w" in encoded:
        np.testing.assert_array_equal(decoded["w"], arrays["w"])
    else:
        rank = len(encoded["w/u"])
        assert rank <= largest_rank(unfold(arrays["w"], unfolding).shape)
        if not cap:
            assert np.square(decoded["w"] - arrays["w"]).sum() <= (1 - energy + 1e-5) * square
        else:
            assert rank <= cap
        expected = truncated(arrays["w"], energy, unfolding, cap or None)
        np.testing.assert_allclose(decoded["w"], expected, rtol=0, atol=1e-5 * np.sqrt(square))


def test_a_chain_of_it_costs_its_factors() -> None:
    arrays = {"w": decaying((64, 100)), "head": np.ones((10, 64), np.float32)}
    spec = Spec.of(arrays)
    chain = Chain.parse("low_rank(1.0, max_rank=4), cast(f16)")
    assert len(chain.encode(arrays, spec)) <= 2 * (4 * 164 + 640) + 16
    assert Chain.from_plain(chain.to_plain()) == chain
    assert Chain.parse(str(chain)) == chain


@pytest.mark.parametrize(
    "broken",
    [
        lambda e: {"w/u": e["w/u"]},
        lambda e: {"w/v": e["w/v"]},
        lambda e: {"w/u": e["w/u"], "w/v": e["w/v"][:1]},
        lambda e: {**e, "w": np.zeros((20, 20), np.float32)},
        lambda e: {},
    ],
)
def test_factors_that_do_not_belong_together_are_refused(broken: Any) -> None:
    arrays = {"w": decaying((20, 20))}
    codec, context = LowRank(0.99, ends=False), Context(Spec.of(arrays))
    with pytest.raises(CodecError, match="does-not-fit"):
        codec.decode(broken(codec.encode(arrays, context)), context)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    arrays = {"w": np.full((9, 9), value, np.float32)}
    with pytest.raises(CodecError, match="out-of-range"):
        LowRank(ends=False).encode(arrays, Context(Spec.of(arrays)))


@pytest.mark.parametrize(
    "text",
    ["low_rank(0)", "low_rank(1.5)", "low_rank(max_rank=-1)", "low_rank(unfolding=depth)", "low_rank(dense=3)",
     "low_rank(ends=2)"],
)  # fmt: skip
def test_a_wrong_configuration_is_refused(text: str) -> None:
    with pytest.raises(CodecError, match="bad-chain"):
        Chain.parse(text)
