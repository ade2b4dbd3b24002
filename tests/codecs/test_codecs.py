"""Chains as people write them, and what is particular to `cast`, `delta`, `byte_shuffle` and `zstd`."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs import CODECS, Chain, CodecError, Spec

ONE = Spec.of({"x": np.zeros(1, "<f4")})


def _cast(to: str, values: object) -> np.ndarray:
    arrays = {"x": np.asarray(values, "<f4")}
    chain, spec = Chain.parse(f"cast({to})"), Spec.of(arrays)
    return chain.decode(chain.encode(arrays, spec), spec)["x"]


@settings(deadline=None)
@given(values=st.lists(st.floats(-60000, 60000, width=32), min_size=1))
def test_the_error_of_a_cast_is_bounded(values: list[float]) -> None:
    exact = np.asarray(values, "<f4").astype(np.float64)
    assert (np.abs(_cast("f16", values) - exact) <= np.maximum(2.0**-11 * np.abs(exact), 2.0**-25)).all()
    normal = np.abs(exact) >= np.finfo("f4").tiny
    assert (np.abs(_cast("bf16", values) - exact) <= 2.0**-8 * np.abs(exact))[normal].all()


@pytest.mark.parametrize(("to", "value"), [("f16", 65520.0), ("f16", np.nan), ("bf16", np.inf), ("bf16", 3.4e38)])
def test_what_16_bits_cannot_hold_is_refused(to: str, value: float) -> None:
    with pytest.raises(CodecError) as raised:
        _cast(to, [value])
    assert raised.value.reason == "out-of-range"


def test_bf16_rounds_to_even() -> None:
    low, high = np.array([0x3F80, 0x3F81], "<u2").astype("<u4") << 16
    ties = np.array([low + 0x8000, high + 0x8000], "<u4").view("<f4")
    assert _cast("bf16", ties).view("<u4").tolist() == [low, high + 0x10000]


@settings(deadline=None)
@given(values=st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32)), min_size=1))
def test_a_delta_comes_back_to_one_rounding(values: list[tuple[float, float]]) -> None:
    exact, reference = np.asarray(values, "<f4").T
    chain, spec = Chain.parse("delta"), Spec.of({"x": exact})
    payload = chain.encode({"x": exact}, spec, reference={"x": reference})
    decoded = chain.decode(payload, spec, reference={"x": reference})["x"]
    difference = np.abs(exact.astype(np.float64) - reference)
    bound = 2.0**-24 * (np.abs(exact) + 2 * difference) + 2.0**-149
    assert (np.abs(decoded.astype(np.float64) - exact) <= bound).all()


def test_planes_stand_side_by_side() -> None:
    codec = Chain.parse("byte_shuffle(4)").bytes_codecs[0]
    assert codec.encode(b"abcdABCDxyz") == b"aAbBcCdDxyz"


def _frame(data: bytes, **options: bool) -> bytes:
    return b"\x01" + zstandard.ZstdCompressor(**options).compress(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed"),
        (b"\x02abc", "malformed"),
        (b"\x01abc", "malformed"),
        (_frame(bytes(100)) + b"x", "malformed"),
        (_frame(bytes(100))[:-1], "malformed"),
        (_frame(bytes(100), write_content_size=False), "malformed"),
        (_frame(bytes(101)), "too-large"),
        (b"\x00" + bytes(101), "too-large"),
        # 33 kB that declare a gibibyte: refused before anything is allocated.
        (b"\x01" + bytes.fromhex("28b52ffd a0 00000040") + bytes(33_000), "too-large"),
    ],
)
def test_frames_that_lie_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CodecError) as raised:
        Chain.parse("zstd").bytes_codecs[0].decode(data, limit=100)
    assert raised.value.reason == reason


def test_data_that_do_not_compress_cost_one_byte() -> None:
    noise = np.random.default_rng(0).bytes(1000)
    assert len(Chain.parse("zstd(19)").bytes_codecs[0].encode(noise)) == 1001


@pytest.mark.parametrize(
    "text",
    [
        "nothing", "cast(f16", "cast(f32)", "cast(f16, f16)", "cast(to=f16, to=bf16)", "zstd(0)",
        "zstd(level=x.y)", "zstd, cast(f16)",
        "byte_shuffle(1)", "byte_shuffle('a')", "cast(width=3)", "zstd(**{})", "[zstd]", "__import__('os')",
        ", ".join(["zstd"] * 17), "(" * 500,
    ],
)  # fmt: skip
def test_chains_that_cannot_be_built(text: str) -> None:
    with pytest.raises(CodecError) as raised:
        Chain.parse(text)
    assert raised.value.reason == "bad-chain"


@pytest.mark.parametrize(
    "plain", [None, {}, ["zstd"], [{"name": 3}], [{"name": "zstd", "more": 1}], [{"name": "zstd", "configuration": []}]]
)
def test_plain_chains_that_cannot_be_built(plain: object) -> None:
    with pytest.raises(CodecError) as raised:
        Chain.from_plain(plain)
    assert raised.value.reason == "bad-chain"


def test_a_payload_above_the_limit_is_not_even_decoded() -> None:
    chain = Chain.parse("cast(f16)")
    with pytest.raises(CodecError) as raised:
        chain.decode(bytes(chain.bound(ONE).max_payload_bytes + 1), ONE)
    assert raised.value.reason == "too-large"


@pytest.mark.parametrize("name", CODECS)
def test_whatever_is_taken_for_a_codec_can_be_bound(name: str) -> None:
    """What follows from a chain and a spec is kept under both, so a chain is hashable, whatever a plan says."""
    for field in fields(CODECS[name]):  # type: ignore[arg-type]
        for value in ([], {}, [[1]], [{}], {"a": 1}, None, "x", 1, 1.5, True, ["x"], [["x"]]):
            try:
                chain = Chain.from_plain([{"name": name, "configuration": {field.name: value}}])
            except CodecError:
                continue
            assert hash(chain) == hash(Chain.from_plain(chain.to_plain()))


def test_a_bound_chain_is_the_chain() -> None:
    arrays = {"x": np.arange(6, dtype="<f4")}
    chain, spec = Chain.parse("cast(f16), byte_shuffle(2), zstd"), Spec.of(arrays)
    bound = chain.bound(spec)
    payload = bound.encode(arrays)
    assert payload == chain.encode(arrays, spec)
    assert len(payload) <= bound.max_payload_bytes
    np.testing.assert_array_equal(bound.decode(payload)["x"], chain.decode(payload, spec)["x"])
    assert Chain.parse("cast(f16), byte_shuffle(2), zstd").bound(Spec.of(arrays)) is bound
