"""Laws of coarse codes on the way down: what is accepted converges, and what cannot is refused when the run is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from thinwire.codecs import Array, CodecError
from thinwire.methods.chains import Chains
from thinwire.methods.definition import define
from thinwire.methods.payloads import Part, publish
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

ROUNDING = st.sampled_from(["stochastic", "nearest", "deadzone"])
QUANTISED = st.one_of(
    st.builds(
        "quantise({}, per={!r}, block=64, rounding={!r})".format,
        st.sampled_from([1, 2, 3, 4, 8]),
        st.sampled_from(["tensor", "channel", "block"]),
        ROUNDING,
    ),
    st.builds("quantise({}, rounding={!r}, rotate=True)".format, st.integers(1, 4), ROUNDING),
)
SPARSE = st.sampled_from(["", "top_k(0.05), ", "random_k(0.2), ", "low_rank(max_rank=1, ends=False), "])
ACCEPTED = st.builds("delta, {}{}".format, SPARSE, QUANTISED) | st.sampled_from(
    ["delta, cast(f16)", "delta, top_k(0.02)", "delta, random_k(0.05)", "delta, low_rank(0.3, ends=False), cast(bf16)"]
)


def loss(part: Part, target: dict[str, Array]) -> float:
    """The largest distance of an array from its target."""
    return max(float(np.linalg.norm(target[name] - part.arrays[name])) for name in target)


@given(ACCEPTED, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_what_is_broadcast_comes_to_a_target_that_stands_still(down: str, seed: int) -> None:
    """And no array of it is ever farther away than it was."""
    random = np.random.default_rng(seed)
    target: dict[str, Array] = {
        "w": random.standard_normal((8, 12)).astype(np.float32),
        "b": (random.standard_normal(10) ** 3).astype(np.float32),
    }
    try:
        define("run", RunSettings(downlink=down)).first_state(target)
    except ProblemError:
        reject()
    chains = Chains.parse(down=down)
    part = publish({name: np.zeros_like(array) for name, array in target.items()}, chains, seed=0)
    losses = [loss(part, target)]
    before = {name: float(np.linalg.norm(target[name])) for name in target}
    for exchange in range(1, 201):
        part = publish(target, chains, base=part, seed=exchange)
        for name in target:
            distance = float(np.linalg.norm(target[name] - part.arrays[name]))
            assert distance <= before[name] * (1 + 1e-5) + 1e-6
            before[name] = distance
        losses.append(loss(part, target))
        if losses[-1] < 0.1 * losses[0]:
            return
    assert losses[-1] < 0.1 * losses[0], losses[::40]


def test_a_chain_that_loses_little_keeps_its_bits() -> None:
    """Six bits, and two rounded to the nearest: as they stood before anything was shortened."""
    random = np.random.default_rng(1)
    first, second = (random.standard_normal((50, 40)).astype(np.float32) for _ in range(2))
    for down in ("delta, quantise(6)", "delta, quantise(4, rounding='nearest')", "delta, top_k(0.1)"):
        chains = Chains.parse(down=down)
        base = publish({"w": first}, chains)
        part = publish({"w": second}, chains, base=base, seed=3)
        assert part.delta == chains.down.encode({"w": second}, base.spec, reference=base.arrays, seed=3)


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ("top_k(0.1), delta, entropy", "top_k changes what delta would compare; write delta, top_k"),
        ("quantise(1), entropy", "write delta, quantise"),
        ("quantise(2), entropy", "write delta, quantise"),
        ("random_k(0.1)", "write delta, random_k"),
        ("top_k(0.01)", "write delta, top_k"),
    ],
)
def test_a_chain_that_cannot_is_refused_with_the_nearest_one_that_does(chain: str, words: str) -> None:
    model = {"w": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}
    with pytest.raises(ProblemError, match="run-invalid") as refused:
        define("run", RunSettings(downlink=chain)).first_state(model)
    assert words in refused.value.detail
    nearest = refused.value.detail.rsplit("write ", 1)[1]
    define("run", RunSettings(downlink=nearest)).first_state(model)


@pytest.mark.parametrize(
    ("value", "words"),
    [(1e6, "the chain down, cast, cannot hold it"), (np.inf, "The model diverges: lower the run's lr")],
)
def test_what_is_out_of_range_says_whether_it_is_the_chain_or_the_rate(value: float, words: str) -> None:
    arrays: dict[str, Any] = {"w": np.full(3, value, np.float32)}
    with pytest.raises(CodecError, match="out-of-range") as refused:
        publish(arrays, Chains.parse(down="cast(f16)"))
    assert words in refused.value.detail


def test_answers_that_are_mostly_noise_are_warned_of() -> None:
    """One unbiased bit: the square of its error is eleven times that of a normal array, twice in the mean of five."""
    one, two = "quantise(1), entropy", "quantise(2), entropy"
    assert "quantise(bits=1)" in define("run", RunSettings(uplink=one, cohort=5)).warnings[0]
    assert define("run", RunSettings(uplink=one, cohort=50)).warnings == []
    assert define("run", RunSettings(uplink=two, cohort=5)).warnings == []
    assert define("run", RunSettings(uplink=one, cohort=5, settings={"error-feedback": True})).warnings == []
    assert define("run", RunSettings(method="sparse_masks", cohort=5, uplink="entropy")).warnings == []
