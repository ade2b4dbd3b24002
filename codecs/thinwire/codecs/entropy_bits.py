"""The bits of `entropy`: all `bool` arrays of a bundle as one string."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .coding import masks
from .coding.bits import unpack_bits
from .coding.grouping import key_sizes
from .coding.reading import Reader
from .counter import uniform_blocks
from .errors import CodecError
from .shapes import Shapes, max_shapes_bytes, read_shapes, sizes_of, split, write_shapes
from .spec import Array, Arrays, ArraySpec, Open, Spec

BITS: Final = "entropy/bits"
MASKS: Final = "entropy/masks"
BINS: Final = 30
_RAW, _ARRAYS, _COUNTS, _BINS = range(4)
"""What the first byte says: bits as they are, or coded by array, by count and bin, by bin within the distribution that
follows from the counts.
"""


@dataclass(frozen=True, slots=True)
class Known:
    """What both ends know of every bit: its count in `counts`, arrays by name, None where they have none; with a `seed`
    the bin of u as well.
    """

    counts: Arrays | None = None
    seed: int | None = None

    @property
    def bins(self) -> int:
        """How many keys a count has."""
        return 1 if self.seed is None else BINS

    def key_count(self, keys: NDArray[np.uint16]) -> int:
        """Above all of these keys."""
        return (int(keys.max(initial=0)) // self.bins + 1) * self.bins

    def keys(self, shapes: Shapes) -> NDArray[np.uint16] | None:
        """Of every bit its count, with a seed times `BINS` plus the bin of u; None where a count is not known."""
        if self.counts is None:
            return None
        keys = np.empty(sum(sizes_of(shapes)), np.uint16)
        most = masks.MAX_KEYS // self.bins
        begin = 0
        for name, shape in shapes.items():
            counts = self.counts.get(name)
            if counts is None or counts.shape != shape or counts.dtype.kind not in "ui":
                return None
            if counts.size and not 0 <= int(counts.min()) <= int(counts.max()) < most:
                return None
            into = keys[begin : begin + counts.size]
            into[...] = counts.reshape(-1)
            if self.seed is not None:
                into *= np.uint16(BINS)
                at = 0
                for u in uniform_blocks(self.seed, name, counts.size):
                    into[at : at + len(u)] += _BIN_OF[u >> np.uint32(16)]
                    at += len(u)
            begin += counts.size
        return keys


def coded_bits(spec: Spec) -> Spec:
    """The arrays that are coded as bits."""
    return Spec((name, item) for name, item in spec.items() if item.dtype == "bool")


def coded_bits_items(spec: Spec) -> list[tuple[str, ArraySpec]]:
    """What `encode_bits` gives for arrays of this spec."""
    packed = -(-spec.max_elements // 8)
    coded = ArraySpec("u8", (Open(packed + 1 + max_shapes_bytes(spec)),), optional=True)
    whole = [] if max_shapes_bytes(spec) else [(BITS, ArraySpec("u8", (packed,), optional=True))]
    return [*whole, (MASKS, coded)]


def encode_bits(arrays: Arrays, spec: Spec, known: Known) -> dict[str, Array]:
    """The shortest of what can be made of them, by its name."""
    bits = np.concatenate([np.zeros(0, np.bool_), *(array.reshape(-1) for array in arrays.values())])
    sizes = np.array([array.size for array in arrays.values()], np.int64)
    ones = np.array([np.count_nonzero(array) for array in arrays.values()], np.int64)
    candidates = {_ARRAYS: ((sizes, ones), 1)}
    keys = known.keys({name: array.shape for name, array in arrays.items()})
    if keys is not None:
        counted = masks.count_bits(bits, keys, known.key_count(keys))
        candidates[_COUNTS] = (counted, known.bins)
        if known.seed is not None:
            candidates[_BINS] = (counted, 1)
    estimates = {mode: masks.estimated_bits(*found) for mode, found in candidates.items()}
    mode = min(estimates, key=estimates.__getitem__)
    header = bytes([mode]) + write_shapes(arrays, spec)
    if estimates[mode] < len(bits):
        chosen = _array_keys(sizes) if keys is None or mode == _ARRAYS else keys
        coded = masks.encode_bits(bits, chosen, *candidates[mode])
        if 8 * len(coded) < len(bits):
            return {MASKS: np.frombuffer(header + coded, np.uint8)}
    packed = np.packbits(bits, bitorder="little")
    if len(header) == 1 and not max_shapes_bytes(spec):
        return {BITS: packed}
    return {MASKS: np.concatenate([np.frombuffer(bytes([_RAW]) + header[1:], np.uint8), packed])}


def decode_bits(arrays: Arrays, spec: Spec, known: Known) -> dict[str, Array]:
    """The inverse of `encode_bits`. Raises: `malformed`, `does-not-fit`, `no-reference`."""
    if (BITS in arrays) == (MASKS in arrays):
        raise CodecError("does-not-fit", f"one of {BITS} and {MASKS} is needed")
    if BITS in arrays:
        return split(unpack_bits(arrays[BITS], spec.max_elements), read_shapes(Reader(memoryview(b"")), spec))
    reader = Reader(arrays[MASKS].data)
    mode = reader.byte()
    shapes = read_shapes(reader, spec)
    sizes = np.array(sizes_of(shapes), np.int64)
    if mode == _RAW and max_shapes_bytes(spec):
        packed = np.frombuffer(reader.take(-(-int(sizes.sum()) // 8)), np.uint8)
        reader.end()
        return split(unpack_bits(packed, int(sizes.sum())), shapes)
    if mode not in (_ARRAYS, _COUNTS, _BINS) or (mode == _BINS and known.seed is None):
        raise CodecError("malformed", f"entropy knows no mode {mode} here")
    keys, width = _array_keys(sizes), 1
    if mode != _ARRAYS:
        found = known.keys(shapes)
        if found is None:
            raise CodecError("no-reference", "entropy: these masks were coded with counts that are not here")
        keys, width = found, known.bins if mode == _COUNTS else 1
        sizes = key_sizes(keys, known.key_count(keys))
    return split(masks.decode_bits(reader, keys, sizes, width), shapes)


def _bin_table() -> NDArray[np.uint8]:
    """The bin of u's upper 16 bits v: of w = min(v, 65535 - v) the octave, two bins for the highest; the upper half
    mirrored.
    """
    values = np.arange(1 << 16)
    folded = np.minimum(values, 65535 - values)
    octaves = np.frexp(np.maximum(folded, 3))[1] - 2
    bins = np.where(folded >= 24576, 14, octaves)
    return np.where(values < 32768, bins, BINS - 1 - bins).astype(np.uint8)


_BIN_OF: Final = _bin_table()


def _array_keys(sizes: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Of every element the index of its array."""
    return np.repeat(np.arange(len(sizes), dtype=np.uint16), sizes)
