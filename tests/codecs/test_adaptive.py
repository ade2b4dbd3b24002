"""Laws of symbols whose tables nobody sends: all come back, what lines and thresholds tell is not paid for."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.codecs import Array, Arrays, ArraySpec, Chain, CodecError, Open, Spec
from thinwire.methods.arrays import same_bits

ADAPTIVE = "entropy(adaptive)"
SAMPLED = "entropy(adaptive, sampling=True)"
STEP = "quantise(8, per=bundle, spread={}, rounding={}), {}"


def _size(text: str, arrays: Arrays, seed: int = 5) -> int:
    """Of the payload, once it has been seen to decode to what a chain without `adaptive` decodes to."""
    chain, spec = Chain.parse(text), Spec.of(arrays)
    payload = chain.encode(arrays, spec, seed=seed)
    plain = Chain(chain.array_codecs[:-1])
    expected = plain.decode(plain.encode(arrays, spec, seed=seed), spec, seed=seed)
    assert same_bits(chain.decode(payload, spec, seed=seed), expected)
    assert len(payload) <= chain.bound(spec).max_payload_bytes
    return len(payload)


def _update(random: np.random.Generator, scale: float = 1.0) -> Arrays:
    """Layers whose rows and columns are of unlike size, as those of trained models are."""
    rows, columns = (np.exp(scale * random.standard_normal(n)).astype("<f4") for n in (64, 96))
    noise: Array = random.standard_normal((64, 96, 3, 3)).astype("<f4")
    return {"w": noise * rows[:, None, None, None] * columns[:, None, None], "b": rows}


shapes = st.lists(st.sampled_from([(), (0,), (7,), (300,), (0, 3), (1, 1), (20, 30), (4, 3, 2, 2)]), max_size=4)


@given(shapes, st.sampled_from([ADAPTIVE, SAMPLED]), st.integers(1, 255), st.integers(0, 2**64 - 1))
def test_any_bundle_of_symbols_comes_back(chosen: list[tuple[int, ...]], text: str, most: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    arrays: dict[str, Array] = {
        f"a{index}": np.asarray(random.binomial(most, random.random(), shape), np.uint8)
        for index, shape in enumerate(chosen)
    }
    chain, spec = Chain.parse(text), Spec.of(arrays)
    payload = chain.encode(arrays, spec, seed=seed)
    assert same_bits(chain.decode(payload, spec, seed=seed), arrays)
    assert len(payload) <= len(Chain.parse("entropy").encode(arrays, spec)) + 16


@pytest.mark.parametrize("rounding", ["nearest", "deadzone"])
@pytest.mark.parametrize("spread", [1, 3])
def test_the_sizes_of_rows_and_columns_are_not_paid_for(rounding: str, spread: int) -> None:
    arrays = _update(np.random.default_rng(1))
    plain = _size(STEP.format(spread, rounding, "entropy"), arrays)
    assert _size(STEP.format(spread, rounding, ADAPTIVE), arrays) < 0.72 * plain


def test_where_lines_are_alike_next_to_nothing_is_lost() -> None:
    arrays = {"w": np.random.default_rng(2).standard_normal((300, 200)).astype("<f4")}
    for spread in (0.1, 0.5, 2):
        plain = _size(STEP.format(spread, "nearest", "entropy"), arrays)
        assert _size(STEP.format(spread, "nearest", ADAPTIVE), arrays) <= 1.01 * plain


def test_a_small_model_sends_no_tables() -> None:
    random = np.random.default_rng(3)
    arrays = {f"a{size}": random.normal(0, size, (24, 24)).astype("<f4") for size in range(1, 13)}
    plain = _size(STEP.format(1, "nearest", "entropy"), arrays)
    assert _size(STEP.format(1, "nearest", ADAPTIVE), arrays) < 0.98 * plain


def _bits_at_threshold(spread: float) -> float:
    """Of a normal number rounded by a known u, at a step of so many of its deviations: the mean entropy over u."""
    total, parts = 0.0, 4000
    for index in range(parts):
        far = spread * (index + 0.5) / parts / 2
        for distance in (far, spread - far):
            p = math.erfc(distance / math.sqrt(2)) / 2
            total -= (p * math.log2(p) + (1 - p) * math.log2(1 - p) if 0 < p < 1 else 0) / parts
    return total


@pytest.mark.parametrize("spread", [4.0, 8.0, 16.0])
def test_a_symbol_costs_what_its_threshold_leaves_open(spread: float) -> None:
    """Within a fifth; a quarter less, and more, than it costs to whoever does not know the threshold."""
    arrays = {"w": np.random.default_rng(4).standard_normal((400, 500)).astype("<f4")}
    sampled = _size(STEP.format(spread, "stochastic", SAMPLED), arrays)
    assert sampled <= 1.21 * _bits_at_threshold(spread) * 200_000 / 8
    assert sampled < 0.75 * _size(STEP.format(spread, "stochastic", "entropy"), arrays)


def test_arrays_of_more_than_a_byte_are_coded_as_ever() -> None:
    arrays: Arrays = {"w": np.arange(900, dtype="<u2"), "v": np.zeros(40, np.uint8)}
    spec = Spec.of(arrays)
    assert Chain.parse(ADAPTIVE).encode(arrays, spec) == Chain.parse("entropy").encode(arrays, spec)


def test_open_dimensions_and_arrays_left_out() -> None:
    spec = Spec({"rows": ArraySpec("u8", (Open(200), 6)), "k": ArraySpec("u8", (5,), optional=True)})
    arrays: Arrays = {"rows": np.random.default_rng(6).binomial(3, 0.1, (150, 6)).astype(np.uint8)}
    chain = Chain.parse(ADAPTIVE)
    assert same_bits(chain.decode(chain.encode(arrays, spec), spec), arrays)


def _coded(text: str, arrays: Arrays) -> tuple[Chain, Spec, bytes]:
    chain, spec = Chain.parse(text), Spec.of(arrays)
    return chain, spec, chain.encode(arrays, spec)


def test_hostile_streams_are_refused() -> None:
    symbols: Arrays = {"w": np.random.default_rng(7).binomial(2, 0.1, (30, 40)).astype(np.uint8)}
    chain, spec, payload = _coded(ADAPTIVE, symbols)
    mode = payload.index(b"\x03\x00\x00")  # adaptive, zero 0, lowest 0
    cases: list[tuple[Chain, bytes]] = [
        (Chain.parse("entropy"), payload),
        (chain, payload[: mode + 1] + b"\x03" + payload[mode + 2 :]),
        (chain, payload[: mode + 3] + b"\x01" + payload[mode + 4 :]),
    ]
    for each, data in cases:
        with pytest.raises(CodecError) as raised:
            each.decode(data, spec)
        assert raised.value.reason == "malformed"


def test_lines_are_counted_alike_everywhere() -> None:
    """The digest of a large payload of many lanes: integers alone decide."""
    random: Any = np.random.Generator(np.random.Philox(key=9))
    arrays: Arrays = {"w": random.integers(0, 3, (900, 400)).astype(np.uint8) * (np.arange(400) % 3 == 0)}
    arrays = {name: array.astype(np.uint8) for name, array in arrays.items()}
    _, _, payload = _coded(ADAPTIVE, arrays)
    assert hashlib.sha256(payload).hexdigest()[:16] == "c441d6dcad433557"
