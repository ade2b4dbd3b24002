"""What is never sent: frozen weights and first scores, drawn from a seed by integers, alike on every machine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from typing import Final

import numpy as np

from thinwire.codecs import Array, Arrays, Spec
from thinwire.codecs.counter import uniform_bits
from thinwire.methods.arrays import is_buffer
from thinwire.methods.sharing import is_named
from thinwire.methods.sparse_masks import Weights

SIGNED: Final = 2.71828  # as in FedPM's code
LEVELS: Final = 63


def maskable(spec: Spec, buffers: Collection[str] = (), masks: str = "", dense: str = "") -> Spec:
    """Weights with two or more dimensions, and the biases that go with such weights; no buffers, named by `buffers` or
    as they travel. `masks`, `dense`: as the settings have them, of those the ones that are to have masks.
    """
    trained = Spec((name, item) for name, item in spec.items() if name not in buffers and not is_buffer(name))
    return Spec(
        (name, item)
        for name, item in trained.items()
        if _weight_of(name, trained) is not None and is_named(name, masks) and not is_dense(name, dense)
    )


def is_dense(name: str, dense: str) -> bool:
    """Whether an array is trained as it is."""
    return bool(dense) and not is_buffer(name) and is_named(name, dense)


def digest_of(weights: Arrays) -> bytes:
    """16 bytes by which the weights behind masks are known: of names, shapes and numbers, in their order."""
    found = hashlib.sha256()
    for name, array in weights.items():
        found.update(f"{name} {array.shape} ".encode())
        found.update(np.asarray(array, "<f4", order="C").tobytes())
    return found.digest()[:16]


def _weight_of(name: str, spec: Spec) -> str | None:
    """The array whose fan-in this one has; None for scales, shifts and statistics of normalisation layers."""
    if len(spec[name].shape) >= 2:
        return name
    layer, dot, last = name.rpartition(".")
    weight = f"{layer}{dot}{last.replace('bias', 'weight')}"
    return weight if weight != name and weight in spec and len(spec[weight].shape) >= 2 else None


def frozen_weights(
    spec: Spec, seed: int, weights: Weights, buffers: Collection[str] = (), masked: Spec | None = None
) -> dict[str, Array]:
    """The frozen value of every array of a model's spec that has a mask, float32; `masked`: of these alone."""
    found: dict[str, Array] = {}
    for name, item in (maskable(spec, buffers) if masked is None else masked).items():
        weight = _weight_of(name, spec)
        assert weight is not None  # noqa: S101
        spread = (math.sqrt(2) if weights == "kaiming-signed" else SIGNED) / math.sqrt(
            math.prod(spec[weight].max_shape[1:])
        )
        key, count = f"weights/{name}", item.max_elements
        if weights == "normal":
            drawn = spread * standard_normal(seed, key, count)
        elif weights == "uniform":
            centred = uniform_bits(seed, key, count).astype(np.float64) - (2**31 - 0.5)
            drawn = centred * (spread * math.sqrt(3) / 2**31)
        else:
            drawn = np.where(uniform_bits(seed, key, count) >> np.uint32(31), spread, -spread)
        found[name] = drawn.astype(np.float32).reshape(item.max_shape)
    return found


def standard_normal(seed: int, key: str, count: int) -> Array:
    """(count,) float64: near N(0, 1), bounded by 6; sums of twelve uniform 16-bit integers (Irwin, Hall)."""
    words = uniform_bits(seed, key, 6 * count).reshape(count, 6)
    summed = (words >> np.uint32(16)).sum(1, dtype=np.int64) + (words & np.uint32(0xFFFF)).sum(1, dtype=np.int64)
    normal: Array = (summed - 6 * 0xFFFF) / 65536.0
    return normal


def first_scores(seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """The scores of an array before the first round, float64, N(0, 1)."""
    return standard_normal(seed, f"scores/{name}", math.prod(shape)).reshape(shape)


def draw(thetas: Array, seed: int, name: str) -> Array:
    """A mask 1[u < theta], bool; u from the shared generator, of which the coder knows as much."""
    threshold = np.rint(thetas.reshape(-1).astype(np.float64) * 2.0**32)
    return (uniform_bits(seed, name, thetas.size) < threshold).reshape(thetas.shape)


def theta_of_counts(counts: Array, masks: int) -> Array:
    """float64; `masks`: how many were counted, 0 where `counts` holds arcsine levels (`level_of_theta`)."""
    if masks:
        return counts / float(masks)
    return np.square(np.sin(counts * (math.pi / (2 * LEVELS))))


def level_of_theta(theta: Array) -> Array:
    """uint8 of 0..63: the nearest of 64 probabilities whose arcsines are evenly spaced."""
    levels: Array = np.rint(np.arcsin(np.sqrt(theta)) * (2 * LEVELS / math.pi)).astype(np.uint8)
    return levels
