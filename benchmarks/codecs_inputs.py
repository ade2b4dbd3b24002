"""What the codecs are measured on: masks whose entropy is known, and arrays of a trained network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.trained import trained_arrays
from thinwire.codecs import Array, Arrays, Chain, Context, Spec
from thinwire.codecs.counter import uniform_bits

LEVELS = 64
SEED = 7
PACKED = ("pack_bits", "pack_bits, zstd")
GRIDS = (
    "", "byte_shuffle, zstd", "cast(f16), byte_shuffle(2), zstd", "cast(bf16), byte_shuffle(2), zstd",
    "quantise(8), zstd", "quantise(8), entropy", "quantise(4), entropy", "quantise(2), entropy",
    "quantise(8, per=channel), entropy", "quantise(8, per=block), entropy", "quantise(4, rotate=True), entropy",
)  # fmt: skip
SPARSE = ("top_k(0.05), quantise(8), entropy", "top_k(0.05), golomb", "random_k(0.1), cast(f16)")
LOW_RANK = ("low_rank(0.9, ends=False), quantise(8), entropy",)
LABELS = ("cast(f16), zstd", "soft_labels(8), entropy", "soft_labels(4), entropy", "soft_labels(1), entropy")


@dataclass(frozen=True, slots=True)
class Input:
    """`entropy`: in bytes; 0 where it is that of the chain's symbols."""

    name: str
    arrays: Arrays
    chains: tuple[str, ...]
    entropy: float = 0.0
    reference: Arrays | None = None
    seed: int = SEED

    @property
    def values(self) -> int:
        return sum(array.size for array in self.arrays.values())


def masks(sizes: tuple[int, ...]) -> Iterator[tuple[Input, Array]]:
    """Each with the probability of every element, as somebody knows it who knows all there is."""
    for size in sizes:
        for p in (0.5, 0.3, 0.1, 0.02, 0.001):
            mask = np.random.default_rng(1).random(size) < p
            sparse = ("golomb",) if p <= 0.1 else ()
            entropy = bernoulli_entropy(np.array([size]), np.array([mask.sum()]))
            given = np.full(size, mask.mean())
            yield Input(f"{size:.0e} bits, p = {p}", {"w": mask}, (*PACKED, *sparse, "entropy"), entropy), given
        for shape in (0.3, 5.0):
            random = np.random.default_rng(2)
            levels = (random.beta(shape, shape, size) * LEVELS).astype(np.uint8)
            mask = random.random(size) < (levels + 0.5) / LEVELS
            counts, ones = np.bincount(levels, minlength=LEVELS), np.bincount(levels, mask, LEVELS)
            given = np.clip(ones / np.maximum(counts, 1), 1e-6, 1 - 1e-6)[levels]
            chains = (*PACKED, "entropy", "entropy(counts)")
            name = f"{size:.0e} bits, Beta({shape:g}, {shape:g})"
            yield Input(name, {"w": mask}, chains, bernoulli_entropy(counts, ones), {"w": levels}), given
        yield _sampled(size)


def _sampled(size: int) -> tuple[Input, Array]:
    """A mask drawn by seeded sampling from probabilities that have moved a little since the last counts of 10 masks."""
    random = np.random.default_rng(3)
    theta = random.beta(0.2, 0.4, size)
    counts = random.binomial(10, theta).astype(np.uint8)
    moved = np.clip(theta + random.normal(0, 0.01, size), 0, 1)
    mask = uniform_bits(SEED, "w", size) < np.rint(moved * 2**32)
    sizes, ones = np.bincount(counts, minlength=11), np.bincount(counts, mask, 11)
    chains = ("pack_bits", "entropy", "entropy(counts)", "entropy(counts, sampling=True)")
    given = np.clip(ones / np.maximum(sizes, 1), 1e-6, 1 - 1e-6)[counts]
    name = f"{size:.0e} bits, seeded sampling"
    return Input(name, {"w": mask}, chains, bernoulli_entropy(sizes, ones), {"w": counts}), given


def numbers() -> Iterator[Input]:
    """Arrays of a trained network."""
    arrays = trained_arrays()
    yield Input("weights", arrays["weights"], GRIDS)
    yield Input("update", arrays["update"], (*GRIDS, *SPARSE, *LOW_RANK))
    yield Input("factors", arrays["factors"], GRIDS)
    yield Input("logits", arrays["logits"], GRIDS)
    yield Input("probabilities", arrays["probabilities"], LABELS)


def bernoulli_entropy(sizes: Any, ones: Any) -> float:
    """Bytes: of bits whose frequency is known in each of some classes."""
    total = 0.0
    for part in (ones, sizes - ones):
        present = part > 0
        total -= float((part[present] * np.log2(part[present] / sizes[present])).sum())
    return total / 8


def entropy_of_symbols(chain: Chain, item: Input) -> float:
    """Bytes: of what stands before `entropy`, of each array by itself, and all that is not coded; else 0."""
    if not chain.array_codecs or chain.array_codecs[-1].name != "entropy":
        return 0.0
    arrays, spec = item.arrays, Spec.of(item.arrays)
    for codec in chain.array_codecs[:-1]:
        arrays, spec = codec.encode(arrays, Context(spec, item.reference, item.seed)), codec.encoded_spec(spec)
    total = 0.0
    for array in arrays.values():
        if array.dtype.kind in "bu":
            counts = np.unique(array, return_counts=True)[1]
            total -= float((counts * np.log2(counts / counts.sum())).sum()) / 8
        else:
            total += array.nbytes
    return total
