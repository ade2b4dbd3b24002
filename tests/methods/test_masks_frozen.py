"""Laws of what sparse random networks never send: frozen weights and first scores; and of how masks are drawn."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from thinwire.codecs import ArraySpec, Spec
from thinwire.methods.sparse_masks import Weights
from thinwire.methods.sparse_masks.frozen import (
    draw,
    first_scores,
    frozen_weights,
    level_of_theta,
    maskable,
    standard_normal,
    theta_of_counts,
)

SPEC = Spec([("a.weight", ArraySpec("f32", (5, 3, 2, 2))), ("a.bias", ArraySpec("f32", (5,)))])
DIGESTS: dict[Weights, str] = {
    "signed": "e5e9fb4737d9d1c0",
    "kaiming-signed": "48e0f898475f1721",
    "normal": "bbf8f51c2a335309",
    "uniform": "d6609235d28cebeb",
}


def philox(counter: int, key: tuple[int, int]) -> list[int]:
    """Philox4x64-10 as the paper has it, in whole numbers of any size."""
    words, (k0, k1) = [counter, 0, 0, 0], key
    for _ in range(10):
        low, high = words[0] * 0xD2E7470EE14C6C93, words[2] * 0xCA5A826395121157
        words = [high >> 64 ^ words[1] ^ k0, high % 2**64, low >> 64 ^ words[3] ^ k1, low % 2**64]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % 2**64, (k1 + 0xBB67AE8584CAA73B) % 2**64
    return words


def integers(seed: int, name: str) -> Iterator[int]:
    """The shared generator's 32-bit integers."""
    key = struct.unpack("<QQ", hashlib.sha256(struct.pack("<Q", seed) + name.encode()).digest()[:16])
    counter = 0
    while True:
        counter += 1
        for word in philox(counter, key):
            yield from (word % 2**32, word >> 32)


def normal(drawn: Iterator[int]) -> float:
    halves = [half for word in (next(drawn) for _ in range(6)) for half in (word % 2**16, word >> 16)]
    return (sum(halves) - 6 * 65535) / 65536


def by_hand(weights: Weights) -> bytes:
    """Without numpy."""
    found = b""
    for name, count in (("a.weight", 60), ("a.bias", 5)):
        drawn = integers(7, f"weights/{name}")
        spread = (math.sqrt(2) if weights == "kaiming-signed" else 2.71828) / math.sqrt(12)
        for _ in range(count):
            if weights == "normal":
                value = spread * normal(drawn)
            elif weights == "uniform":
                value = (next(drawn) - (2**31 - 0.5)) * (spread * math.sqrt(3) / 2**31)
            else:
                value = spread if next(drawn) >> 31 else -spread
            found += struct.pack("<f", value)
    return found


def test_the_generator_is_the_papers() -> None:
    """The first of its published test vectors."""
    assert philox(0, (0, 0)) == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]


@pytest.mark.parametrize("weights", DIGESTS)
def test_frozen_weights_are_the_same_on_every_machine(weights: Weights) -> None:
    """Pinned: a change would make every stored model another one."""
    found = b"".join(array.tobytes() for array in frozen_weights(SPEC, 7, weights).values())
    assert found == by_hand(weights)
    assert hashlib.sha256(found).hexdigest()[:16] == DIGESTS[weights]


def test_first_scores_are_the_same_on_every_machine() -> None:
    drawn = integers(7, "scores/a.weight")
    assert first_scores(7, "a.weight", (8, 5)).reshape(-1).tolist() == [normal(drawn) for _ in range(40)]


def test_frozen_weights_have_the_spread_of_their_fan_in() -> None:
    spec = Spec([("w.weight", ArraySpec("f32", (200, 50))), ("w.bias", ArraySpec("f32", (200,)))])
    signed = frozen_weights(spec, 0, "signed")
    assert set(np.unique(np.abs(signed["w.weight"]))) == {np.float32(2.71828 / math.sqrt(50))}
    assert np.array_equal(np.unique(np.abs(signed["w.bias"])), np.unique(np.abs(signed["w.weight"])))
    assert abs(float(np.sign(signed["w.weight"]).mean())) < 0.03
    for weights, expected in [("normal", 2.71828), ("uniform", 2.71828), ("kaiming-signed", math.sqrt(2))]:
        found = frozen_weights(spec, 0, weights)["w.weight"]  # type: ignore[arg-type]
        assert float(found.std()) == pytest.approx(expected / math.sqrt(50), rel=0.03)
    normal = standard_normal(3, "x", 100_000)
    assert float(normal.mean()) == pytest.approx(0, abs=0.02)
    assert float(normal.std()) == pytest.approx(1, rel=0.01)
    assert float((np.abs(normal) < 1).mean()) == pytest.approx(0.6827, abs=0.01)


def test_weights_and_their_biases_are_masked_and_norms_are_not() -> None:
    names = {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,), "1.running_mean": (4,),
             "r.weight_ih_l0": (8, 2), "r.bias_ih_l0": (8,), "scale": (1,)}  # fmt: skip
    spec = Spec((name, ArraySpec("f32", shape)) for name, shape in names.items())
    assert list(maskable(spec)) == ["0.weight", "0.bias", "r.weight_ih_l0", "r.bias_ih_l0"]


def test_levels_and_counts_are_probabilities() -> None:
    theta = np.linspace(0, 1, 1001)
    levels = level_of_theta(theta)
    decoded = theta_of_counts(levels, 0)
    assert decoded.dtype == np.float64
    assert decoded.min() == 0
    assert decoded.max() == 1
    assert np.abs(decoded - theta).max() < 0.013
    assert (level_of_theta(decoded) == levels).all()
    assert (theta_of_counts(np.arange(8, dtype=np.uint8), 7) == np.arange(8) / 7).all()


def test_a_mask_is_drawn_with_its_probabilities() -> None:
    theta = np.repeat([0.0, 0.1, 0.5, 0.9, 1.0], 20_000)
    mask = draw(theta, 5, "w").reshape(5, -1)
    assert mask.mean(1).tolist() == pytest.approx([0, 0.1, 0.5, 0.9, 1], abs=0.01)
    assert not mask[0].any()
    assert mask[4].all()
    assert (draw(theta, 5, "w") == mask.reshape(-1)).all()
    assert (draw(theta, 6, "w") != mask.reshape(-1)).any()
