"""The container: a few bytes of header, and nothing that no encoder writes is read."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs import (
    DTYPES,
    ArraySpec,
    CodecError,
    Open,
    Spec,
    max_container_bytes,
    pack_arrays,
    unpack_arrays,
)
from thinwire.methods.arrays import same_bits

SPEC = Spec(
    {"w": ArraySpec("f32", (2,)), "k": ArraySpec("u8", (Open(9),)), "m": ArraySpec("bool", (3,), optional=True)}
)
ARRAYS: dict[str, Any] = {"w": np.array([1.0, -2.0], "<f4"), "k": np.array([7, 8, 9], np.uint8)}
BODY = bytes.fromhex("0000803f000000c0070809")


@st.composite
def bundles(draw: st.DrawFn) -> tuple[Spec, dict[str, Any]]:
    """A spec and arrays that fit it."""
    items, arrays = {}, {}
    for index in range(draw(st.integers(0, 6))):
        dtype, optional = draw(st.sampled_from(sorted(DTYPES))), draw(st.booleans())
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        opened = [Open(size + draw(st.integers(0, 300))) if draw(st.booleans()) else size for size in shape]
        items[f"a{index}"] = ArraySpec(dtype, tuple(opened), optional)
        if not optional or draw(st.booleans()):
            raw = np.random.default_rng(index).integers(0, 2, math.prod(shape))
            arrays[f"a{index}"] = raw.astype(DTYPES[dtype]).reshape(shape)
    return Spec(items), arrays


@settings(deadline=None)
@given(bundle=bundles())
def test_there_and_back(bundle: tuple[Spec, dict[str, Any]]) -> None:
    spec, arrays = bundle
    data = pack_arrays(arrays, spec)
    assert same_bits(unpack_arrays(data, spec), arrays)
    assert len(data) <= max_container_bytes(spec)
    assert Spec.from_plain(msgpack.unpackb(msgpack.packb(spec.to_plain()))) == spec


def test_the_worked_example_of_the_text() -> None:
    spec = Spec({"w": SPEC["w"], "k": SPEC["k"]})
    assert pack_arrays(ARRAYS, spec) == bytes.fromhex("9200920103") + BODY


def test_arrays_of_a_closed_spec_cost_one_byte() -> None:
    spec = Spec({f"a{index}": ArraySpec("f32", (4,)) for index in range(100)})
    arrays = {name: np.ones(4, "<f4") for name in spec}
    assert len(pack_arrays(arrays, spec)) == 1 + 100 * 16


def test_nothing_is_copied_on_the_way_in() -> None:
    data = pack_arrays(ARRAYS, SPEC)
    assert unpack_arrays(data, SPEC)["w"].base is not None


@pytest.mark.parametrize(
    ("header", "body", "reason"),
    [
        ([0, [1, 3]], BODY[:-1], "malformed"),  # too few bytes
        ([0, [1, 3]], BODY + b"\0", "malformed"),  # too many
        ([0, [1, 10]], BODY[:8] + bytes(10), "too-large"),  # above the maximum
        ([0, [1, -1]], BODY, "too-large"),
        ([0, [1, 1 << 40]], BODY, "too-large"),
        ([[1, 3], 0], BODY, "malformed"),  # not in order
        ([0, 0, [1, 3]], BODY, "malformed"),  # twice
        ([0, [1, 3], 3], BODY, "malformed"),  # an index without an array
        ([0, 1], BODY, "malformed"),  # an open dimension is missing
        ([0, [1, 3, 3]], BODY, "malformed"),  # one too many
        ([[0], [1, 3]], BODY, "malformed"),  # an array around nothing
        ([[0, 2], [1, 3]], BODY, "malformed"),  # a closed dimension
        ([0, [1, True]], BODY, "malformed"),
        ([0, [1, 3.0]], BODY, "malformed"),
        ([0, [1, "3"]], BODY, "malformed"),
        ([[1, 3]], BODY[8:], "does-not-fit"),  # not optional
        ([0, [1, 3], 2], BODY + b"\0\1\2", "malformed"),  # a bool that is neither 0 nor 1
        (7, BODY, "malformed"),
        ({}, BODY, "malformed"),
        ("x" * 70000, BODY, "malformed"),
    ],
)
def test_what_no_encoder_writes_is_refused(header: object, body: bytes, reason: str) -> None:
    with pytest.raises(CodecError) as raised:
        unpack_arrays(msgpack.packb(header) + body, SPEC)
    assert raised.value.reason == reason


def test_only_the_shortest_header_is_read() -> None:
    long_zero = b"\x92\xcc\x00\x92\x01\x03"  # 0 in two bytes
    with pytest.raises(CodecError, match="shortest"):
        unpack_arrays(long_zero + BODY, SPEC)
    closed = Spec({"w": ArraySpec("f32", (2,))})
    with pytest.raises(CodecError, match="shortest"):
        unpack_arrays(b"\x91\x00" + BODY[:8], closed)
    assert unpack_arrays(b"\xc0" + BODY[:8], closed)["w"].tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    "arrays",
    [
        {"w": ARRAYS["w"]},
        {**ARRAYS, "x": np.zeros(1)},
        {**ARRAYS, "w": ARRAYS["w"].astype("<f8")},
        {**ARRAYS, "w": np.zeros(3, "<f4")},
        {**ARRAYS, "k": np.zeros(10, np.uint8)},
    ],
)
def test_what_does_not_fit_is_not_packed(arrays: dict[str, Any]) -> None:
    with pytest.raises(CodecError) as raised:
        pack_arrays(arrays, SPEC)
    assert raised.value.reason == "does-not-fit"


@pytest.mark.parametrize(
    "plain",
    [
        [], {"a": 1}, {"a": ["f32"]}, {"a": ["c64", [1]]}, {"a": ["f32", [-1]]}, {"a": ["f32", [True]]},
        {"a": ["f32", [{"max": -1}]]}, {"a": ["f32", [{"min": 1}]]}, {"a": ["f32", [1], False]}, {"": ["f32", []]},
        {"a": ["f32", [1 << 40]]}, {"a": ["f32", [1] * 9]}, {"a": ["f64", [1 << 20, 1 << 20]]},
        {"n" * 201: ["f32", []]},
    ],
)  # fmt: skip
def test_absurd_specs_are_refused(plain: object) -> None:
    with pytest.raises(CodecError) as raised:
        Spec.from_plain(plain)
    assert raised.value.reason == "bad-spec"
