"""`entropy`: bits and small integers at about their entropy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from . import masks, symbols
from .counter import uniform_blocks
from .errors import CodecError
from .grouping import gather, key_sizes, pair_sizes, scatter
from .interface import ArrayCodec, Context
from .pack_bits import pack_fields, unpack_bits, unpack_fields
from .reading import Reader
from .shapes import Shapes, max_shapes_bytes, read_shapes, sizes_of, split, write_shapes
from .spec import Array, Arrays, ArraySpec, Open, Spec

BITS: Final = "entropy/bits"
MASKS: Final = "entropy/masks"
SYMBOLS: Final = "entropy/symbols"
BINS: Final = 30
_RAW, _ARRAYS, _COUNTS, _BINS = range(4)


@dataclass(frozen=True, slots=True)
class Entropy(ArrayCodec):
    """All `bool` arrays of the bundle as one string of coded bits, all `u8` and `u16` arrays as one of coded
    symbols; lossless.

    `condition` names what both ends know of an element: `counts`: of a bool, `context.reference[name]`, an integer
    array of the same shape (j, how many masks of the last exchange had a one there); `previous`: of a u8,
    `context.reference[name]`, the u8 before it. `sampling` (with `counts`): a bool was drawn as u < theta with u
    from `counter.uniform_bits(context.seed, name, n)`, so the bin of u is known as well. Where the reference is
    missing, and wherever it is shorter, each array has one distribution, or none: what is sent is the shortest of
    all candidates, at most 1 bit of a bool, at most ceil(log2(largest + 1)) of a symbol.

    Layout: codecs/README.md. Cost: about 10 ns per bool and 50 ns per symbol each way, 8 bytes of memory per
    element. The models are integers: the same bytes and the same arrays on every machine. Source: `rans`, `gaps`;
    seeded sampling is ours.
    """

    name: ClassVar[str] = "entropy"
    lossless: ClassVar[bool] = True

    condition: Literal["", "counts", "previous"] = ""
    sampling: bool = False

    def __post_init__(self) -> None:
        if self.condition not in ("", "counts", "previous"):
            raise CodecError("bad-chain", f"entropy knows the conditions counts and previous, not {self.condition!r}")
        if type(self.sampling) is not bool or (self.sampling and self.condition != "counts"):
            raise CodecError("bad-chain", "entropy: sampling is true or false, and true with condition='counts' only")

    @property
    def needs_reference(self) -> bool:
        """With `previous`: of a broadcast, whoever lacks the base gets another form. Encoding works without all the
        same.
        """
        return self.condition == "previous"

    def encoded_spec(self, spec: Spec) -> Spec:
        """Raises: `bad-spec` (an array is named like one of ours)."""
        if not {BITS, MASKS, SYMBOLS}.isdisjoint(spec):
            raise CodecError("bad-spec", f"entropy: the names {BITS}, {MASKS} and {SYMBOLS} are its own")
        coded = _bits_of(spec), _symbols_of(spec)
        items = [(name, item) for name, item in spec.items() if name not in coded[0] and name not in coded[1]]
        if coded[0]:
            packed = -(-coded[0].max_elements // 8)
            if not max_shapes_bytes(coded[0]):
                items.append((BITS, ArraySpec("u8", (packed,), optional=True)))
            items.append((MASKS, ArraySpec("u8", (Open(packed + 1 + max_shapes_bytes(coded[0])),), optional=True)))
        if coded[1]:
            items.append((SYMBOLS, ArraySpec("u8", (Open(coded[1].max_bytes + 2 + max_shapes_bytes(coded[1])),))))
        return Spec(items)

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        bits, bytes_ = _bits_of(context.spec), _symbols_of(context.spec)
        encoded = {name: array for name, array in arrays.items() if name not in bits and name not in bytes_}
        if bits:
            encoded.update(self._encode_bits({name: arrays[name] for name in bits if name in arrays}, bits, context))
        if bytes_:
            encoded[SYMBOLS] = self._encode_symbols(
                {name: arrays[name] for name in bytes_ if name in arrays}, bytes_, context
            )
        return encoded

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `malformed`, `does-not-fit`, `no-reference`."""
        bits, bytes_ = _bits_of(context.spec), _symbols_of(context.spec)
        decoded = {name: array for name, array in arrays.items() if name not in (BITS, MASKS, SYMBOLS)}
        if bits:
            if (BITS in arrays) == (MASKS in arrays):
                raise CodecError("does-not-fit", f"one of {BITS} and {MASKS} is needed")
            if BITS in arrays:
                decoded.update(
                    split(unpack_bits(arrays[BITS], bits.max_elements), read_shapes(Reader(memoryview(b"")), bits))
                )
            else:
                decoded.update(self._decode_bits(Reader(arrays[MASKS].data), bits, context))
        if bytes_:
            decoded.update(self._decode_symbols(Reader(arrays[SYMBOLS].data), bytes_, context))
        return decoded

    def _encode_bits(self, arrays: Arrays, spec: Spec, context: Context) -> Arrays:
        bits = np.concatenate([np.zeros(0, np.bool_), *(array.reshape(-1) for array in arrays.values())])
        sizes = np.array([array.size for array in arrays.values()], np.int64)
        ones = np.array([np.count_nonzero(array) for array in arrays.values()], np.int64)
        candidates = {_ARRAYS: ((sizes, ones), 1)}
        keys = self._keys({name: array.shape for name, array in arrays.items()}, context)
        if keys is not None:
            counted = masks.count_bits(bits, keys, self._key_count(keys))
            candidates[_COUNTS] = (counted, self._bins)
            if self.sampling:
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

    def _decode_bits(self, reader: Reader, spec: Spec, context: Context) -> Arrays:
        mode = reader.byte()
        shapes = read_shapes(reader, spec)
        sizes = np.array(sizes_of(shapes), np.int64)
        if mode == _RAW and max_shapes_bytes(spec):
            packed = np.frombuffer(reader.take(-(-int(sizes.sum()) // 8)), np.uint8)
            reader.end()
            return split(unpack_bits(packed, int(sizes.sum())), shapes)
        if mode not in (_ARRAYS, _COUNTS, _BINS) or (mode == _BINS and not self.sampling):
            raise CodecError("malformed", f"entropy knows no mode {mode} here")
        keys, width = _array_keys(sizes), 1
        if mode != _ARRAYS:
            found = self._keys(shapes, context)
            if found is None:
                raise CodecError("no-reference", "entropy: these masks were coded with counts that are not here")
            keys, width = found, self._bins if mode == _COUNTS else 1
            sizes = key_sizes(keys, self._key_count(keys))
        return split(masks.decode_bits(reader, keys, sizes, width), shapes)

    @property
    def _bins(self) -> int:
        """How many keys a count has."""
        return BINS if self.sampling else 1

    def _key_count(self, keys: NDArray[np.uint16]) -> int:
        return (int(keys.max(initial=0)) // self._bins + 1) * self._bins

    def _keys(self, shapes: Shapes, context: Context) -> NDArray[np.uint16] | None:
        """Of every bit its count, with `sampling` times `BINS` plus the bin of u; None where a count is not known."""
        if self.condition != "counts" or context.reference is None:
            return None
        keys = np.empty(sum(sizes_of(shapes)), np.uint16)
        most = masks.MAX_KEYS // self._bins
        begin = 0
        for name, shape in shapes.items():
            counts = context.reference.get(name)
            if counts is None or counts.shape != shape or counts.dtype.kind not in "ui":
                return None
            if counts.size and not 0 <= int(counts.min()) <= int(counts.max()) < most:
                return None
            into = keys[begin : begin + counts.size]
            into[...] = counts.reshape(-1)
            if self.sampling:
                into *= np.uint16(BINS)
                at = 0
                for u in uniform_blocks(context.seed, name, counts.size):
                    into[at : at + len(u)] += _BIN_OF[u >> np.uint32(16)]
                    at += len(u)
            begin += counts.size
        return keys

    def _previous(self, shapes: Shapes, spec: Spec, context: Context) -> NDArray[np.uint8] | None:
        """Of every symbol the one before it; None where not all are known."""
        if self.condition != "previous" or context.reference is None:
            return None
        before = [context.reference.get(name) for name in shapes]
        if any(
            array is None or array.dtype != np.uint8 or array.shape != shape or spec[name].dtype != "u8"
            for array, (name, shape) in zip(before, shapes.items(), strict=True)
        ):
            return None
        return np.concatenate([np.zeros(0, np.uint8), *(array.reshape(-1) for array in before if array is not None)])

    def _encode_symbols(self, arrays: Arrays, spec: Spec, context: Context) -> Array:
        planes = [plane for array in arrays.values() for plane in _planes(array)]
        everything = np.concatenate([np.zeros(0, np.uint8), *planes])
        sizes = [len(plane) for plane in planes]
        shapes = write_shapes(arrays, spec)
        by_array = symbols.Tables([key_sizes(plane, 256) for plane in planes])
        width = int(everything.max(initial=0)).bit_length()
        bits, mode, coded = len(everything) * width, _RAW, bytes([width])
        previous = self._previous({name: array.shape for name, array in arrays.items()}, spec, context)
        by_previous = None
        if previous is not None:
            by_previous = symbols.Tables(list(pair_sizes(previous, everything, 256, 8)))
        if by_previous is not None and previous is not None and by_previous.bits < min(bits, by_array.bits):
            mode = _COUNTS
            previous_sizes = key_sizes(previous, 256)
            coded = by_previous.encode(gather(everything, previous, previous_sizes), previous_sizes.tolist())
        elif by_array.bits < bits:
            mode = _ARRAYS
            coded = by_array.encode(everything, sizes)
        if mode == _RAW or 8 * len(coded) >= bits + 8:
            mode, coded = _RAW, bytes([width]) + pack_fields(everything, width)
        return np.frombuffer(bytes([mode]) + shapes + coded, np.uint8)

    def _decode_symbols(self, reader: Reader, spec: Spec, context: Context) -> Arrays:
        mode = reader.byte()
        shapes = read_shapes(reader, spec)
        sizes = [math.prod(shape) for name, shape in shapes.items() for _ in range(1 + (spec[name].dtype == "u16"))]
        if mode == _RAW:
            width = reader.byte()
            everything = unpack_fields(reader.take(-(-sum(sizes) * width // 8)), sum(sizes), width)
            reader.end()
        elif mode == _ARRAYS:
            everything = symbols.decode_contexts(reader, sizes)
        elif mode == _COUNTS and self.condition == "previous":
            previous = self._previous(shapes, spec, context)
            if previous is None:
                raise CodecError(
                    "no-reference", "entropy: these symbols were coded with previous ones that are not here"
                )
            previous_sizes = key_sizes(previous, 256)
            ordered = symbols.decode_contexts(reader, previous_sizes.tolist())
            everything = scatter(ordered, previous, previous_sizes)
        else:
            raise CodecError("malformed", f"entropy knows no mode {mode} here")
        decoded: dict[str, Array] = {}
        begin = 0
        for name, shape in shapes.items():
            size = math.prod(shape)
            values: Array = everything[begin : begin + size]
            begin += size
            if spec[name].dtype == "u16":
                values = values.astype("<u2") | everything[begin : begin + size].astype("<u2") << np.uint16(8)
                begin += size
            decoded[name] = values.reshape(shape)
        return decoded


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


def _bits_of(spec: Spec) -> Spec:
    return Spec((name, item) for name, item in spec.items() if item.dtype == "bool")


def _symbols_of(spec: Spec) -> Spec:
    return Spec((name, item) for name, item in spec.items() if item.dtype in ("u8", "u16"))


def _planes(array: Array) -> Iterator[NDArray[np.uint8]]:
    """The bytes of each significance, lowest first."""
    flat = array.reshape(-1)
    yield flat if flat.dtype == np.uint8 else (flat & 255).astype(np.uint8)
    if flat.dtype != np.uint8:
        yield (flat >> 8).astype(np.uint8)
