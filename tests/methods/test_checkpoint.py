"""Laws of checkpoints: what went in comes out, the same state gives the same bytes, nothing torn is taken for whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thinwire.codecs import DTYPES, Array, CodecError
from thinwire.methods.arrays import same_bits
from thinwire.methods.checkpoint import pack_state, unpack_state
from thinwire.methods.values import State

arrays = st.dictionaries(
    st.text(min_size=1, max_size=20),
    st.sampled_from(sorted(DTYPES)).flatmap(
        lambda name: hnp.arrays(DTYPES[name], hnp.array_shapes(min_dims=0, min_side=0))
    ),
    max_size=5,
)
states = st.builds(State, st.integers(1, 1 << 40), st.integers(0, 1 << 20), arrays)
EXAMPLE = State(3, 1, {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7)})


@given(states)
def test_a_state_comes_back_as_it_was(state: State) -> None:
    data = pack_state(state)
    found = unpack_state(data)
    assert (found.round, found.step, list(found.arrays)) == (state.round, state.step, list(state.arrays))
    assert same_bits(found.arrays, state.arrays)
    assert pack_state(found) == data


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3).T, np.arange(10)[::2]])
def test_strides_do_not_show(array: Array) -> None:
    packed = pack_state(State(1, 0, {"w": array}))
    assert packed == pack_state(State(1, 0, {"w": np.array(array, order="C")}))


def test_no_prefix_of_a_checkpoint_is_one() -> None:
    data = pack_state(EXAMPLE)
    for length in range(len(data)):
        with pytest.raises(CodecError):
            unpack_state(data[:length])
    with pytest.raises(CodecError):
        unpack_state(data + b"\0")


def test_no_flipped_byte_is_overlooked() -> None:
    data = pack_state(EXAMPLE)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(CodecError):
            unpack_state(bytes(damaged))


@given(st.binary(max_size=200), st.integers(0, 60))
def test_no_bytes_do_more_than_raise(noise: bytes, kept: int) -> None:
    for data in (noise, pack_state(EXAMPLE)[:kept] + noise):
        try:
            state = unpack_state(data)
        except CodecError:
            continue
        assert isinstance(state, State)
