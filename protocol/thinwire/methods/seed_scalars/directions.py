"""Directions of signs that everybody draws alike, and the model that a history of steps along them makes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs import Arrays
from thinwire.codecs.counter import uniform_bits
from thinwire.methods.arrays import Model, buffers_of, is_buffer

Key = tuple[int, int, int]
"""Round from 1, step and perturbation from 0; of a window (0, 0, number in the pool)."""
_BLOCK = 1 << 20


def direction_bytes(seed: int, key: Key, size: int) -> NDArray[np.uint8]:
    """A direction of `size` elements, packed: bit i % 8, from the lowest, of byte i // 8; 0 is +1, 1 is -1.

    The bits of Philox4x64-10 (`codecs.counter`) under the run's seed and the name `direction/T/S/P`.
    """
    name = "direction/" + "/".join(map(str, key))
    words = uniform_bits(seed, name, -(-size // 32)).astype("<u4")
    return words.view(np.uint8)[: -(-size // 8)]


def signs(packed: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """The direction as float32 of +1 and -1."""
    bits = np.unpackbits(packed, count=size, bitorder="little")
    found: NDArray[np.float32] = 1 - 2 * bits.astype(np.float32)
    return found


def drawn(seed: int, round_: int, steps: int, perturbations: int, window: int | None) -> list[list[Key]]:
    """The keys of a round's directions, (S, P)."""
    if window is None:
        return [[(round_, step, one) for one in range(perturbations)] for step in range(steps)]
    words = uniform_bits(seed, f"window/{round_}", steps * perturbations).astype(np.int64) % window
    return [[(0, 0, int(number)) for number in row] for row in words.reshape(steps, perturbations)]


def moves(history: NDArray[np.float32], begin: int = 0) -> Iterator[tuple[Key, np.float32]]:
    """The directions of a history and how far each is gone, in the order in which they are added; nothing is gone along
    those of 0. `begin`: rounds to leave out.
    """
    if history.ndim == 1:
        for number in np.flatnonzero(history):
            yield (0, 0, int(number)), history[number]
        return
    for row, step, one in np.argwhere(history[begin:]):
        yield (begin + int(row) + 1, int(step), int(one)), history[begin + row, step, one]


def walk(weights: NDArray[np.float32], seed: int, history: NDArray[np.float32], begin: int = 0) -> None:
    """Changes `weights`, (d,), into those after the history: w <- w - a z for each of its moves."""
    for key, far in moves(history, begin):
        packed = direction_bytes(seed, key, weights.size)
        for start in range(0, weights.size, _BLOCK):
            part = weights[start : start + _BLOCK]
            part -= far * signs(packed[start // 8 : (start + part.size + 7) // 8], part.size)


def trained_names(model: Arrays) -> list[str]:
    """Of a model or its travelling arrays: those that are trained, in its order. Buffers stay as they are."""
    buffers = buffers_of(model)
    return [name for name in model if name not in buffers and not is_buffer(name)]


def flat(model: Arrays) -> NDArray[np.float32]:
    """The trained numbers of a model one after the other, a copy, (d,)."""
    found = [np.asarray(model[name], np.float32, order="C").reshape(-1) for name in trained_names(model)]
    return np.concatenate(found)


def unflat(weights: NDArray[np.float32], model: Arrays) -> Model:
    """The model with these numbers in the place of its own."""
    found, start = dict(model), 0
    for name in trained_names(model):
        size = model[name].size
        found[name] = weights[start : start + size].reshape(model[name].shape)
        start += size
    return Model(found, buffers_of(model))
