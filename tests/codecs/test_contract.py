"""The contract of every codec: what it promises, whatever it does to the bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs import CODECS, ArrayCodec, Arrays, ArraySpec, BytesCodec, Chain, CodecError, Context, Open, Spec
from thinwire.methods.arrays import same_bits

ARRAY_CODECS = sorted(name for name, codec in CODECS.items() if issubclass(codec, ArrayCodec))
BYTES_CODECS = sorted(name for name, codec in CODECS.items() if issubclass(codec, BytesCodec))


def _bundle(codec: str) -> dict[str, Any]:
    """Shapes that break careless code: 0-d, empty, Fortran order, strided, many dimensions, every kind of dtype."""
    arrays = _any_values()
    if codec == "soft_labels":  # rows of weights, none of them negative
        return {name: array if array.dtype.kind != "f" else np.abs(array) for name, array in arrays.items()}
    return arrays


def _any_values() -> dict[str, Any]:
    random = np.random.default_rng(1)
    wide = random.standard_normal((12, 40)).astype("<f4")
    return {
        "first": random.standard_normal((3, 2, 3, 3)).astype("<f4"),
        "fortran": np.asfortranarray(wide),
        "strided": wide[::2, ::3],
        "double": random.standard_normal(7),
        "scalar": np.asarray(0.25, "<f4"),
        "empty": np.zeros((0, 5), "<f4"),
        "whole": random.integers(0, 9, (4, 5)).astype("<i4"),
        "counts": random.integers(0, 9, 30).astype(np.uint8),
        "mask": random.random((6, 11)) < 0.2,
        "last": random.standard_normal((4, 3)).astype("<f4"),
    }


def _reference(arrays: Arrays) -> dict[str, Any]:
    return {name: np.array(array) for name, array in arrays.items()}


def _codec(name: str) -> Any:
    return CODECS[name]()


@pytest.mark.parametrize("name", ARRAY_CODECS)
def test_specs_are_kept_in_both_directions(name: str) -> None:
    codec, arrays = _codec(name), _bundle(name)
    context = Context(Spec.of(arrays), _reference(arrays), seed=3)
    encoded = codec.encode(arrays, context)
    codec.encoded_spec(context.spec).check(encoded)
    decoded = codec.decode(encoded, context)
    context.spec.check(decoded)
    for key, array in arrays.items():
        if codec.lossless or array.dtype.kind not in "f":
            assert same_bits({key: decoded[key]}, {key: array}), key


def _norm(array: Any) -> float:
    return float(np.linalg.norm(np.asarray(array, "<f8").reshape(-1)))


def _within(text: str, x: Any, y: Any) -> bool:
    """Whether y, decoded from x by this codec, is within the bound that the codec's docstring states."""
    error, largest = np.abs(y - x), np.abs(x).max(initial=0.0)
    rounding = 2.0**-22 * np.abs(x)
    match text:
        case "cast(f16)":
            return bool((error <= np.maximum(2.0**-11 * np.abs(x), 2.0**-25)).all())
        case "cast(bf16)":
            return bool((error <= 2.0**-8 * np.abs(x)).all())
        case "low_rank(0.9)" | "low_rank(0.5, ends=False)":
            energy = 0.5 if "ends" in text else 0.9
            return _norm(error) ** 2 <= (1 - energy + 1e-6) * _norm(x) ** 2
        case "top_k(0.25)":
            return _norm(error) ** 2 <= 0.75 * _norm(x) ** 2 and bool(((y == 0) | (y == x)).all())
        case "random_k(0.25)":
            return bool(((y == 0) | (np.abs(y - 4 * x) <= 4 * rounding)).all())
        case "quantise(8)":
            return bool((error <= 1.001 * largest / 127 + rounding).all())
        case "quantise(4, rounding=nearest)":
            return bool((error <= 0.501 * largest / 7 + rounding).all())
        case "soft_labels(8)" | "soft_labels(12)":
            units = 255 if "8" in text else 4095
            return x.ndim == 0 or bool((np.abs(y - x / x.sum(-1, keepdims=True)) <= 1.001 / units).all())
    return bool((error <= rounding).all())  # delta against a reference near x; lossless codecs


@pytest.mark.parametrize(
    "text",
    [
        "append", "delta", "cast(f16)", "cast(bf16)", "low_rank(0.9)", "low_rank(0.5, ends=False)", "top_k(0.25)",
        "random_k(0.25)", "quantise(8)", "quantise(4, rounding=nearest)", "soft_labels(8)", "soft_labels(12)",
        "pack_bits", "golomb", "golomb(7)", "entropy", "byte_shuffle(3)", "zstd(19)",
    ],
)  # fmt: skip
def test_what_comes_back_is_within_the_stated_bound(text: str) -> None:
    chain = Chain.parse(text)
    arrays = _bundle(text.partition("(")[0])
    spec = Spec.of(arrays)
    payload = chain.encode(arrays, spec, reference=_reference(arrays), seed=11)
    for key, decoded in chain.decode(payload, spec, reference=_reference(arrays), seed=11).items():
        assert isinstance(decoded, np.ndarray), key  # and no numpy scalar, also without dimensions
        if spec[key].is_floating:
            assert _within(text, arrays[key].astype("<f8"), decoded.astype("<f8")), key
        else:
            assert same_bits({key: decoded}, {key: arrays[key]})


# Those whose docstring says so; the others carry what is no number as it is.
NUMBERS_ONLY = {"cast", "low_rank", "top_k", "soft_labels", "quantise"}


@pytest.mark.parametrize("name", sorted(NUMBERS_ONLY & set(ARRAY_CODECS)))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(name: str, value: float) -> None:
    arrays = {"w": np.ones((20, 30), "<f4"), "last": np.ones((2, 2), "<f4")}
    arrays["w"][3, 4] = value
    codec = CODECS[name](ends=False) if name == "low_rank" else _codec(name)
    with pytest.raises(CodecError) as raised:
        codec.encode(arrays, Context(Spec.of(arrays)))
    assert raised.value.reason == "out-of-range"


@pytest.mark.parametrize("name", ARRAY_CODECS)
def test_arrays_that_are_left_out_stay_out(name: str) -> None:
    """Each array alone, of a spec all of whose arrays are optional; and none of them."""
    chain, arrays = Chain.of([_codec(name)]), _bundle(name)
    spec = Spec.of(arrays).with_optional()
    for some in ({}, *({key: array} for key, array in arrays.items())):
        payload = chain.encode(some, spec, reference=_reference(arrays), seed=5)
        assert chain.decode(payload, spec, reference=_reference(arrays), seed=5).keys() == some.keys()


@pytest.mark.parametrize("name", ARRAY_CODECS)
def test_neither_input_nor_reference_is_changed(name: str) -> None:
    codec, arrays = _codec(name), _bundle(name)
    reference = _reference(arrays)
    context = Context(Spec.of(arrays), reference, seed=3)
    codec.decode(codec.encode(arrays, context), context)
    assert same_bits(arrays, _bundle(name))
    assert same_bits(reference, _reference(_bundle(name)))


@pytest.mark.parametrize("name", [*ARRAY_CODECS, *BYTES_CODECS])
def test_the_same_input_gives_the_same_payload(name: str) -> None:
    chain, arrays = Chain.of([_codec(name)]), _bundle(name)
    spec = Spec.of(arrays)
    packed = {key: np.array(array, order="C") for key, array in arrays.items()}
    first = chain.encode(arrays, spec, reference=_reference(arrays), seed=5)
    # The order in memory is no property of an array.
    assert first == chain.encode(packed, spec, reference=_reference(arrays), seed=5)
    assert len(first) <= chain.bound(spec).max_payload_bytes


@pytest.mark.parametrize("name", [*ARRAY_CODECS, *BYTES_CODECS])
def test_configuration_there_and_back(name: str) -> None:
    chain = Chain.of([_codec(name)])
    assert Chain.from_plain(chain.to_plain()) == chain
    assert Chain.parse(str(chain)) == chain
    with pytest.raises(CodecError, match="bad-chain") as raised:
        Chain.from_plain([{"name": name, "configuration": {"no such setting": 1}}])
    assert raised.value.reason == "bad-chain"


@pytest.mark.parametrize("name", ARRAY_CODECS)
def test_a_reference_that_is_needed_is_demanded(name: str) -> None:
    codec, arrays = _codec(name), _bundle(name)
    # Of arrays that may grow, since `append` compares no others.
    spec = Spec(
        (key, ArraySpec(item.dtype, (Open(item.max_shape[0]), *item.shape[1:]) if item.shape else ()))
        for key, item in Spec.of(arrays).items()
    )
    if codec.needs_reference:
        for reference in (None, {}, {key: array[np.newaxis] for key, array in arrays.items()}):
            with pytest.raises(CodecError) as raised:
                codec.encode(arrays, Context(spec, reference))
            assert raised.value.reason == "no-reference"


@pytest.mark.parametrize("name", [*ARRAY_CODECS, *BYTES_CODECS])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_broken_payloads_raise_or_decode_to_what_fits(name: str, data: st.DataObject) -> None:
    """Truncated, bit-flipped, spliced: `CodecError`, or arrays that fit the spec; never anything else."""
    chain, arrays = Chain.of([_codec(name)]), _bundle(name)
    spec, reference = Spec.of(arrays), _reference(arrays)
    payload = bytearray(chain.encode(arrays, spec, reference=reference, seed=5))
    position = data.draw(st.integers(0, len(payload) - 1))
    match data.draw(st.sampled_from(["cut", "flip", "splice", "noise", "grow"])):
        case "cut":
            del payload[position:]
        case "flip":
            payload[position] ^= 1 << data.draw(st.integers(0, 7))
        case "splice":
            payload[position:] = payload[: len(payload) - position]
        case "noise":
            payload = bytearray(data.draw(st.binary(max_size=200)))
        case "grow":
            payload += data.draw(st.binary(min_size=1, max_size=50))
    try:
        decoded = chain.decode(bytes(payload), spec, reference=reference, seed=5)
    except CodecError:
        return
    spec.check(decoded)


@pytest.mark.parametrize("name", BYTES_CODECS)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=3000), repeats=st.integers(1, 50))
def test_bytes_come_back_within_the_limit(name: str, data: bytes, repeats: int) -> None:
    codec, plain = _codec(name), data * repeats
    encoded = codec.encode(plain)
    assert len(encoded) <= codec.max_encoded_bytes(len(plain))
    assert codec.decode(encoded, limit=len(plain)) == plain
    if plain:
        with pytest.raises(CodecError) as raised:
            codec.decode(encoded, limit=len(plain) - 1)
        assert raised.value.reason == "too-large"
