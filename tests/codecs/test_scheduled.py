"""Laws of settings that change over a run: both ends find the same number, and it codes as if it had been written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs import Array, Chain, CodecError, Spec

ARRAYS: dict[str, Array] = {
    "w": np.linspace(-1, 2, 60, dtype=np.float32).reshape(6, 10),
    "k": np.arange(3, dtype="<i4"),
}
SPEC = Spec.of(ARRAYS)


@pytest.mark.parametrize(
    ("first", "last", "rounds", "found"),
    [
        (2, 6, 8, [2, 3, 3, 4, 4, 5, 5, 6]),
        (6, 2, 8, [6, 5, 5, 4, 4, 3, 3, 2]),
        (2, 3, 2, [2, 3]),
        (2, 3, 4, [2, 2, 3, 3]),
        (3, 2, 3, [3, 3, 2]),
        (2, 6, 1, [6]),
        (4, 4, 3, [4, 4, 4]),
    ],
)
def test_whole_numbers_in_force_are_golden(first: int, last: int, rounds: int, found: list[int]) -> None:
    chain = Chain.parse(f"delta, quantise('{first}..{last}', spread=3), entropy")
    in_force = [chain.at(round_, rounds) for round_ in range(1, rounds + 1)]
    assert in_force == [Chain.parse(f"delta, quantise({bits}, spread=3), entropy") for bits in found]
    assert chain.at(rounds + 1, rounds) == in_force[-1]  # the evaluation's


def test_other_numbers_in_force_are_golden() -> None:
    chain = Chain.parse("top_k('0.05..0.2'), quantise(8, spread='8..3.5'), entropy")
    assert [str(chain.at(round_, 4)) for round_ in (1, 2, 3, 4)] == [
        "top_k(fraction=0.05), quantise(spread=8.0), entropy",
        "top_k(fraction=0.1), quantise(spread=6.5), entropy",
        "top_k(fraction=0.15000000000000002), quantise(spread=5.0), entropy",
        "top_k(fraction=0.2), quantise(spread=3.5), entropy",
    ]


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 40), st.data())
@settings(max_examples=40, deadline=None)
def test_a_round_codes_as_the_number_that_it_has(first: int, last: int, rounds: int, data: st.DataObject) -> None:
    round_ = data.draw(st.integers(1, rounds))
    chain = Chain.parse(f"quantise('{first}..{last}'), zstd")
    bits = [chain.at(one, rounds).array_codecs[0].bits for one in range(1, rounds + 1)]  # type: ignore[attr-defined]
    assert bits == sorted(bits, reverse=last < first)
    assert bits[-1] == last
    assert rounds == 1 or bits[0] == first
    # What the other end reads from the plan is the same chain, and whoever wrote the number has the same payload.
    read = Chain.from_plain(chain.to_plain())
    assert read == chain == Chain.parse(str(chain))
    payload = read.at(round_, rounds).encode(ARRAYS, SPEC, seed=7)
    assert payload == Chain.parse(f"quantise({bits[round_ - 1]}), zstd").encode(ARRAYS, SPEC, seed=7)
    decoded = chain.at(round_, rounds).decode(payload, SPEC, seed=7)
    assert np.array_equal(decoded["k"], ARRAYS["k"])


def test_what_is_in_force_must_be_said_before_anything_is_coded() -> None:
    chain = Chain.parse("quantise('2..6'), zstd")
    for use in (lambda: chain.bound(SPEC), lambda: chain.encode(ARRAYS, SPEC), lambda: chain.decode(b"", SPEC)):
        with pytest.raises(CodecError, match="which round it is has not been said"):
            use()
    constant = Chain.parse("quantise(3), zstd")
    assert constant.at(3, 9) is constant
    assert not constant.changes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quantise('0..4'), zstd", "1 to 16 bits"),
        ("quantise('4..17'), zstd", "1 to 16 bits"),
        ("quantise('2..4.5'), zstd", "1 to 16 bits"),
        ("quantise('2..'), zstd", "1 to 16 bits"),
        ("quantise('1..4', rounding=deadzone)", "no dead zone"),
        ("quantise(8, spread='3..2000')", "from 0 to 1000"),
        ("quantise(8, spread='3..9999999')", "from 0 to 1000"),
        ("zstd('1..9')", "codes bytes"),
    ],
)
def test_an_end_that_the_codec_does_not_take_is_refused(text: str, said: str) -> None:
    with pytest.raises(CodecError, match=said) as raised:
        Chain.parse(text)
    assert raised.value.reason == "bad-chain"
