"""Laws of payloads: whoever receives a part, in whichever form, ends up with the arrays the server thinks it has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thinwire.codecs import Array, Chain, CodecError, Spec
from thinwire.methods.arrays import same_bits
from thinwire.methods.chains import Chains
from thinwire.methods.payloads import (
    PRIVATE,
    beside_payloads,
    decode_answer,
    decoded_answer,
    encode_answer,
    merge_parts,
    publish,
    receive,
)
from thinwire.methods.values import Answer
from thinwire.protocol.messages import PartMessage, TaskMessage
from thinwire.protocol.short import encode_short

DOWN = [
    "",
    "byte_shuffle, zstd",
    "cast(f16)",
    "delta, zstd",
    "delta, cast(f16), zstd",
    "delta, low_rank(0.5, ends=False)",
]
floats = hnp.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=16))


@given(st.lists(floats, min_size=2, max_size=5), st.sampled_from(DOWN))
def test_holders_of_the_base_and_others_receive_the_same_bits(walk: list[Array], down: str) -> None:
    chains = Chains.parse(down=down)
    held, base = None, None
    for seed, array in enumerate(walk):
        part = publish({"w": array, "n": np.arange(3)}, chains, base=base, seed=seed)
        whole = receive(part.full, part.spec, chains, seed=seed)
        assert same_bits(whole, part.arrays)
        if part.delta is not None:
            assert held is not None
            assert len(part.delta) < len(part.full)
            assert same_bits(receive(part.delta, part.spec, chains, base=held, seed=seed), part.arrays)
        if chains.down.lossless:
            assert same_bits(part.arrays, {"w": array, "n": np.arange(3)})
        held, base = part.arrays, part


def test_what_one_lossy_delta_leaves_out_comes_with_the_next() -> None:
    chains = Chains.parse(down="delta, cast(f16)")
    random = np.random.default_rng(0)
    target = random.standard_normal(50).astype(np.float32)
    part = publish({"w": np.zeros(50, np.float32)}, chains)
    errors = []
    for _ in range(3):
        part = publish({"w": target}, chains, base=part)
        errors.append(float(np.abs(part.arrays["w"] - target).max()))
    assert errors[0] > 1e-5
    assert errors[1] < errors[0] / 500
    assert errors[2] <= 2**-22


def test_a_part_of_another_spec_goes_out_in_full() -> None:
    chains = Chains.parse(down="delta, cast(f16)")
    base = publish({"w": np.ones(3, np.float32)}, chains)
    part = publish({"w": np.ones(4, np.float32)}, chains, base=base)
    assert part.delta is None
    np.testing.assert_array_equal(receive(part.full, part.spec, chains)["w"], np.ones(4))


@pytest.mark.parametrize(("size", "made"), [(100, 0), (5000, 0), (5000, 1), (5000, 2), (47_882, 0), (47_882, 2)])
def test_what_parts_take_beside_their_payloads_is_what_a_message_has(size: int, made: int) -> None:
    def message(parts: list[PartMessage]) -> int:
        return len(encode_short(TaskMessage(
            task="t" * 12, run="r" * 12, plan=bytes(32), exchange=0, round=1, step=0, parts=parts,
        )))  # fmt: skip

    inside, named = PartMessage(inline=bytes(size)), PartMessage(digest=bytes(32), size=size)
    alone = message([inside]) - size
    parts = [named] * made + [inside] * (2 - made)
    beside = message(parts) - size * (2 - made) - alone
    assert abs(beside - beside_payloads(2, made)) <= 2  # lengths are written in one byte, or two, or three


@given(floats, st.sampled_from(["", "zstd", "cast(f16)", "delta, zstd"]))
def test_client_and_server_decode_an_answer_alike(array: Array, up: str) -> None:
    chain, reply = Chain.parse(up), Spec.of({"w": array})
    reference = {"w": np.ones_like(array)}
    payload = encode_answer({"w": array}, reply, chain, reference=reference, seed=4)
    served = decode_answer(payload, reply, chain, reference=reference, seed=4)
    assert same_bits(served, decoded_answer(Answer({"w": array}, 1), reply, chain, reference=reference, seed=4))


def test_an_empty_reply_is_an_empty_payload() -> None:
    assert encode_answer({}, Spec(), Chain(), reference={}, seed=0) == b""
    assert decode_answer(b"", Spec(), Chain(), reference={}, seed=0) == {}


def test_an_answer_that_does_not_fit_is_refused_where_it_is_made() -> None:
    with pytest.raises(CodecError, match="does-not-fit"):
        encode_answer({"w": np.ones(3)}, Spec.of({"w": np.ones(4)}), Chain(), reference={}, seed=0)


def test_the_private_part_is_no_reference() -> None:
    parts = {"a": {"x": np.ones(1)}, PRIVATE: {"y": np.ones(1)}, "b": {"z": np.ones(1)}}
    assert list(merge_parts(parts)) == ["x", "z"]


def test_bits_are_compared_as_bits() -> None:
    assert same_bits({"x": np.array([np.nan])}, {"x": np.array([np.nan])})
    assert not same_bits({"x": np.array([0.0])}, {"x": np.array([-0.0])})
    assert not same_bits({"x": np.zeros(2, "f4")}, {"x": np.zeros(1, "f8")})
    assert not same_bits({"x": np.zeros((1, 2))}, {"x": np.zeros((2, 1))})
    assert not same_bits({"x": np.zeros(1)}, {"y": np.zeros(1)})
