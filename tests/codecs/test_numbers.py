"""Laws of the codecs of numbers: `quantise`, `top_k`, `random_k`, `soft_labels`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.codecs import Array, Arrays, ArraySpec, Chain, CodecError, Context, Open, Spec
from thinwire.codecs.counter import uniform_bits
from thinwire.codecs.hadamard import rotate, rotate_back
from thinwire.codecs.quantise import Quantise
from thinwire.codecs.random_k import RandomK
from thinwire.codecs.soft_labels import SoftLabels
from thinwire.codecs.top_k import TopK
from thinwire.methods.arrays import same_bits

numbers = st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=60)
DRAWS = 1000


def _decoded(codec: Any, arrays: Arrays, seed: int = 0) -> Any:
    context = Context(Spec.of(arrays), seed=seed)
    encoded = codec.encode(arrays, context)
    codec.encoded_spec(context.spec).check(encoded)
    return codec.decode(encoded, context)


def _means(codec: Any, values: Array, draws: int = DRAWS) -> tuple[Array, Array]:
    """Mean and standard error of what is decoded, over seeds."""
    found = np.stack([_decoded(codec, {"x": values}, seed)["x"] for seed in range(draws)]).astype(np.float64)
    return found.mean(0), found.std(0) / np.sqrt(draws)


@given(numbers, st.integers(2, 16), st.sampled_from(["stochastic", "nearest"]), st.integers(0, 99))
def test_the_error_of_a_grid_is_one_step_or_half(values: list[float], bits: int, rounding: Any, seed: int) -> None:
    x = np.array(values, "<f4")
    codec = Quantise(bits, rounding=rounding)
    step = float(codec.encode({"x": x}, Context(Spec.of({"x": x}), seed=seed))["x/step"])
    assert np.abs(x).max() <= step * codec.half <= np.abs(x).max() * (1 + 1e-6) + 1e-30
    error = np.abs(_decoded(codec, {"x": x}, seed)["x"].astype(np.float64) - x)
    assert (error <= step * (0.5 if rounding == "nearest" else 1) + 2.0**-22 * np.abs(x)).all()


def test_zero_stays_zero() -> None:
    x = np.array([0, 3, 0, -1e-9], "<f4")
    for bits in range(2, 17):
        decoded = _decoded(Quantise(bits), {"x": x})["x"]
        assert decoded[0] == decoded[2] == 0
    assert not _decoded(Quantise(1), {"x": np.zeros(5, "<f4")})["x"].any()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_stochastic_rounding_is_unbiased(bits: int) -> None:
    values = np.array([1, -1, 0.3, -0.77, 0.01, 0, 0.5], "<f4")
    mean, error = _means(Quantise(bits), values)
    assert (np.abs(mean - values) <= 5 * error + 1e-6).all()


def test_a_rotation_is_unbiased_too() -> None:
    values = np.full(300, 0.01, "<f4")
    values[7] = 5
    mean, error = _means(Quantise(4, rotate=True), values, 300)
    assert (np.abs(mean - values) <= 6 * error + 1e-5).all()


def test_a_rotation_is_better_where_one_value_is_large() -> None:
    """On average over seeds: a single draw may be lucky, for a plain grid hits zero or misses by a whole step."""
    values = np.random.default_rng(0).standard_normal(500).astype("<f4")
    values[7] = 30
    plain, rotated = (
        np.mean(
            [np.square(_decoded(Quantise(4, rotate=turn), {"x": values}, seed)["x"] - values) for seed in range(40)]
        )
        for turn in (False, True)
    )
    assert rotated < 0.25 * plain


@given(numbers, st.integers(0, 9))
def test_a_rotation_keeps_lengths_and_is_undone(values: list[float], seed: int) -> None:
    x = np.array(values, "<f4") / np.float32(1e10)
    turned = rotate(x, seed, "x")
    largest = float(np.abs(x).max())
    np.testing.assert_allclose(
        np.linalg.norm(turned.astype("f8")), np.linalg.norm(x.astype("f8")), rtol=1e-5, atol=1e-30
    )
    np.testing.assert_allclose(rotate_back(turned, len(x), seed, "x"), x, rtol=0, atol=1e-5 * largest + 1e-30)


@given(numbers, numbers, st.sampled_from([0.25, 1.0, 3.0]))
def test_a_bundle_has_one_step_and_an_error_of_half_of_it(
    first: list[float], second: list[float], spread: float
) -> None:
    arrays = {"x": np.array(first, "<f4"), "y": np.array(second, "<f4")}
    codec = Quantise(16, per="bundle", rounding="nearest", spread=spread)
    encoded = codec.encode(arrays, Context(Spec.of(arrays)))
    step = float(encoded["quantise/step"])
    square = np.mean(np.square(np.concatenate(list(arrays.values())).astype("f8")))
    assert step == pytest.approx(spread * np.sqrt(square), rel=1e-3, abs=1e-37)
    for name, array in _decoded(codec, arrays).items():
        assert (np.abs(array.astype("f8") - arrays[name]) <= step * 0.5 + 2.0**-22 * np.abs(arrays[name])).all()


@given(numbers, st.sampled_from([0.5, 2.0]))
def test_a_dead_zone_shortens_by_at_most_two_thirds_of_a_step(values: list[float], spread: float) -> None:
    """And lengthens by at most .35: what is lost of any array is less than the array."""
    x = np.array(values, "<f4")
    codec = Quantise(16, spread=spread, rounding="deadzone")
    step = float(codec.encode({"x": x}, Context(Spec.of({"x": x})))["x/step"])
    longer = np.abs(_decoded(codec, {"x": x})["x"].astype("f8")) - np.abs(x)
    slack = 2.0**-22 * np.abs(x) + 1e-40
    assert (-0.65 * step - slack <= longer).all()
    assert (longer <= 0.35 * step + slack).all()


def test_a_bundle_may_leave_arrays_out_and_have_none() -> None:
    chain = Chain.parse("quantise(8, per=bundle), entropy")
    arrays = {"x": np.full(4, 127, "<f4"), "k": np.arange(3, dtype="<i4"), "y": np.zeros((2, 0), "<f4")}
    spec = Spec.of(arrays).with_optional()
    for names in (["x", "k", "y"], ["k"], ["y"], []):
        sent = {name: arrays[name] for name in names}
        assert same_bits(chain.decode(chain.encode(sent, spec), spec), sent)
    whole = {"k": arrays["k"]}
    assert same_bits(chain.decode(chain.encode(whole, Spec.of(whole)), Spec.of(whole)), whole)


def test_a_spread_is_not_moved_by_a_large_value_which_is_cut() -> None:
    values = np.random.default_rng(0).standard_normal(10_000).astype("<f4")
    outlier = values.copy()
    outlier[7] = 60
    plain, moved = (
        Quantise(4, spread=0.5, rounding="nearest").encode({"x": x}, Context(Spec.of({"x": x})))
        for x in (values, outlier)
    )
    assert float(moved["x/step"]) < 1.3 * float(plain["x/step"])
    assert int(moved["x"][7]) == 14


def test_channels_and_blocks_have_their_own_steps() -> None:
    x = np.array([[1, 2], [100, 200], [0, 0]], "<f4")
    context = Context(Spec.of({"x": x}))
    channel = Quantise(8, per="channel").encode({"x": x}, context)["x/step"]
    np.testing.assert_allclose(channel * 127, [2, 200, 0], rtol=1e-6)
    block = Quantise(8, per="block", block=4).encode({"x": x}, context)["x/step"]
    np.testing.assert_allclose(block * 127, [200, 0], rtol=1e-6)


def test_grids_of_arrays_with_open_dimensions() -> None:
    spec = Spec({"x": ArraySpec("f32", (Open(9), 4))})
    rows = {"x": np.linspace(-1, 1, 20, dtype="<f4").reshape(5, 4)}
    for text in ("quantise(8)", "quantise(8, per=channel)", "quantise(8, per=block, block=3), entropy", "top_k(0.2)"):
        chain = Chain.parse(text)
        assert chain.decode(chain.encode(rows, spec), spec)["x"].shape == (5, 4)
    for text in ("quantise(8, rotate=True)", "random_k", "golomb, top_k", "soft_labels"):
        with pytest.raises(CodecError) as raised:
            Chain.parse(text).bound(Spec({"x": ArraySpec("f32", (4, Open(9))), "m": ArraySpec("bool", (Open(3),))}))
        assert raised.value.reason == "bad-spec"


@given(numbers, st.floats(0.01, 1))
def test_the_largest_are_kept(values: list[float], fraction: float) -> None:
    x = np.array(values, "<f4")
    codec = TopK(fraction)
    decoded = _decoded(codec, {"x": x})["x"]
    kept = codec.kept(len(x))
    chosen = np.argsort(-np.abs(x), kind="stable")[:kept]
    expected = np.zeros_like(x)
    expected[chosen] = x[chosen]
    np.testing.assert_array_equal(decoded, expected)


@given(numbers, st.sampled_from([0.05, 0.5, 1.0]), st.integers(0, 99))
def test_random_elements_are_those_of_the_seed(values: list[float], fraction: float, seed: int) -> None:
    x = np.array(values, "<f4")
    decoded = _decoded(RandomK(fraction), {"x": x}, seed)["x"]
    kept = uniform_bits(seed, "x", len(x)) < int(fraction * 2**32)
    np.testing.assert_array_equal(decoded, np.where(kept, x * np.float32(1 / fraction), np.float32(0)))
    context = Context(Spec.of({"x": x}), seed=seed)
    for wrong in (kept.sum() + 1, kept.sum() - 1):
        if 0 <= wrong <= len(x):
            with pytest.raises(CodecError) as raised:
                RandomK(fraction).decode({"x": np.zeros(wrong, "<f4")}, context)
            assert raised.value.reason == "does-not-fit"


def test_random_elements_are_unbiased() -> None:
    values = np.array([1, -2, 0.5, 0], "<f4")
    mean, error = _means(RandomK(0.2), values)
    assert (np.abs(mean - values) <= 5 * error + 1e-6).all()


rows = st.integers(1, 6).flatmap(
    lambda classes: st.lists(
        st.lists(st.floats(0, 1, width=32), min_size=classes, max_size=classes).filter(lambda row: sum(row) > 1e-3),
        min_size=1,
        max_size=8,
    )
)


@given(rows, st.integers(1, 16))
def test_soft_labels_stay_distributions(values: list[list[float]], bits: int) -> None:
    x = np.array(values, "<f4")
    exact = x.astype("f8") / x.astype("f8").sum(1, keepdims=True)
    decoded = _decoded(SoftLabels(bits), {"x": x})["x"].astype("f8")
    assert (decoded >= 0).all()
    np.testing.assert_allclose(decoded.sum(1), 1, atol=1e-6)
    units = (1 << bits) - 1
    if bits > 1:
        assert (np.abs(decoded - exact) <= 1 / units + 1e-6).all()
        np.testing.assert_allclose(decoded * units, np.rint(decoded * units), atol=units * 1e-6)
    else:
        weights = np.rint(exact * 2**24)
        np.testing.assert_array_equal(decoded.argmax(1), weights.argmax(1))
        np.testing.assert_array_equal(decoded.max(1), 1)


@pytest.mark.parametrize("bad", [[-0.1, 1.1], [0, 0], [np.nan, 1], [np.inf, 1]])
def test_rows_that_are_no_distribution_are_refused(bad: list[float]) -> None:
    with pytest.raises(CodecError) as raised:
        _decoded(SoftLabels(), {"x": np.array([[0.5, 0.5], bad], "<f4")})
    assert raised.value.reason == "out-of-range"


@pytest.mark.parametrize(("classes", "bits"), [(10, 4), (2, 1), (16, 4), (17, 5)])
def test_an_arg_max_costs_the_bits_of_a_class(classes: int, bits: int) -> None:
    random = np.random.default_rng(0)
    arrays = {"x": np.eye(classes, dtype="<f4")[random.integers(0, classes, 4000)]}
    arrays["x"][0] = np.eye(classes)[-1]
    chain, spec = Chain.parse("soft_labels(1), entropy"), Spec.of(arrays)
    payload = chain.encode(arrays, spec)
    assert len(payload) <= 4000 * bits / 8 + 16
    np.testing.assert_array_equal(chain.decode(payload, spec)["x"], arrays["x"])


@pytest.mark.parametrize(
    ("codec", "encoded", "reason"),
    [
        (Quantise(4), {"x": np.full(4, 15, np.uint8), "x/step": np.float32(1).reshape(())}, "malformed"),
        (Quantise(4), {"x": np.zeros(4, np.uint8), "x/step": np.float32(np.nan).reshape(())}, "out-of-range"),
        (Quantise(4), {"x": np.zeros(4, np.uint8), "x/step": np.float32(-1).reshape(())}, "out-of-range"),
        (Quantise(4), {"x": np.zeros(4, np.uint8), "x/step": np.float32(3e38).reshape(())}, "out-of-range"),
        (Quantise(4), {"x": np.zeros(4, np.uint8)}, "does-not-fit"),
        (Quantise(4), {"x/step": np.float32(1).reshape(())}, "does-not-fit"),
        (TopK(0.5), {"x": np.ones(2, "<f4"), "x/mask": np.ones(4, np.bool_)}, "does-not-fit"),
        (TopK(0.5), {"x": np.ones(2, "<f4")}, "does-not-fit"),
        (RandomK(1.0), {"x": np.array([np.inf, 0, 0, 0], "<f4")}, "out-of-range"),
        (SoftLabels(2), {"x": np.array([1, 2, 1], np.uint8)}, "malformed"),
        (SoftLabels(1), {"x": np.array(4, np.uint8)}, "malformed"),
    ],
)
def test_encoded_arrays_that_no_encoder_gives_are_refused(codec: Any, encoded: Any, reason: str) -> None:
    with pytest.raises(CodecError) as raised:
        codec.decode(encoded, Context(Spec({"x": ArraySpec("f32", (4,))})))
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    "text",
    ["quantise(0)", "quantise(17)", "quantise(8, per=row)", "quantise(8, block=0)", "quantise(rounding=up)",
     "quantise(spread=-1)", "quantise(spread=yes)", "quantise(per=bundle, rotate=True)",
     "quantise(rotate=1)", "quantise(per=channel, rotate=True)", "top_k(0)", "top_k(2)", "random_k(0)", "random_k('a')",
     "soft_labels(0)", "soft_labels(17)", "golomb(-1)", "entropy(other)", "entropy(sampling=True)",
     "entropy(previous, sampling=True)", "quantise(1, rounding=deadzone)"],
)  # fmt: skip
def test_wrong_configurations_are_refused(text: str) -> None:
    with pytest.raises(CodecError) as raised:
        Chain.parse(text)
    assert raised.value.reason == "bad-chain"
