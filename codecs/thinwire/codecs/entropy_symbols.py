"""The symbols of `entropy`: all `u8` and `u16` arrays of a bundle as one string."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .coding import adaptive, symbols
from .coding.bits import pack_fields, unpack_fields
from .coding.grouping import gather, key_sizes, pair_sizes, scatter
from .coding.reading import Reader
from .counter import uniform_bits
from .errors import CodecError
from .shapes import Shapes, max_shapes_bytes, read_shapes, write_shapes
from .spec import Array, Arrays, ArraySpec, Open, Spec

SYMBOLS: Final = "entropy/symbols"
_RAW, _ARRAYS, _PREVIOUS, _ADAPTIVE = range(4)
"""What the first byte says: symbols in as many bits as the largest takes, or coded by array, by the symbol before, by
what was coded so far.
"""


def coded_symbols(spec: Spec) -> Spec:
    """The arrays that are coded as symbols."""
    return Spec((name, item) for name, item in spec.items() if item.dtype in ("u8", "u16"))


def coded_symbols_item(spec: Spec) -> tuple[str, ArraySpec]:
    """What `encode_symbols` gives for arrays of this spec."""
    return SYMBOLS, ArraySpec("u8", (Open(spec.max_bytes + 2 + max_shapes_bytes(spec)),))


@dataclass(frozen=True, slots=True)
class Adaptation:
    """That the chain allows for tables which nobody sends. With a `seed`, symbols were rounded by its numbers."""

    seed: int | None = None

    def drawn(self, shapes: Shapes) -> adaptive.Drawn | None:
        """Of every symbol the upper half of the random number by which `quantise` rounded it; None without a seed."""
        if self.seed is None:
            return None
        numbers = (uniform_bits(self.seed, name, math.prod(shape)) for name, shape in shapes.items())
        halves = ((each >> np.uint32(16)).astype(np.uint16) for each in numbers)
        return np.concatenate([np.zeros(0, np.uint16), *halves])


def encode_symbols(arrays: Arrays, spec: Spec, before: Arrays | None = None, adapts: Adaptation | None = None) -> Array:
    """The shortest of what can be made of them. `before`: the same arrays earlier, where both ends have them."""
    planes = [plane for array in arrays.values() for plane in _planes(array)]
    everything = np.concatenate([np.zeros(0, np.uint8), *planes])
    sizes = [len(plane) for plane in planes]
    shapes = write_shapes(arrays, spec)
    by_array = symbols.Tables([key_sizes(plane, 256) for plane in planes])
    width = int(everything.max(initial=0)).bit_length()
    bits, mode, coded = len(everything) * width, _RAW, bytes([width])
    previous = _previous({name: array.shape for name, array in arrays.items()}, spec, before)
    by_previous = None
    if previous is not None:
        by_previous = symbols.Tables(list(pair_sizes(previous, everything, 256, 8)))
    if by_previous is not None and previous is not None and by_previous.bits < min(bits, by_array.bits):
        mode = _PREVIOUS
        previous_sizes = key_sizes(previous, 256)
        coded = by_previous.encode(gather(everything, previous, previous_sizes), previous_sizes.tolist())
    elif by_array.bits < bits:
        mode = _ARRAYS
        coded = by_array.encode(everything, sizes)
    if adapts is not None and all(array.dtype == np.uint8 for array in arrays.values()):
        known = {name: array.shape for name, array in arrays.items()}
        adapted = adaptive.Coded(everything, list(known.values()), adapts.drawn(known))
        if adapted.bits < (8 * len(coded) if mode != _RAW else bits):
            mode, coded = _ADAPTIVE, adapted.encode()
    if mode == _RAW or 8 * len(coded) >= bits + 8:
        mode, coded = _RAW, bytes([width]) + pack_fields(everything, width)
    return np.frombuffer(bytes([mode]) + shapes + coded, np.uint8)


def decode_symbols(
    coded: Array,
    spec: Spec,
    before: Arrays | None = None,
    adapts: Adaptation | None = None,
    *,
    conditioned: bool = False,
) -> dict[str, Array]:
    """The inverse of `encode_symbols`. `conditioned`: whether the chain allows for what came before.

    Raises: `malformed`, `no-reference`.
    """
    reader = Reader(coded.data)
    mode = reader.byte()
    shapes = read_shapes(reader, spec)
    sizes = [math.prod(shape) for name, shape in shapes.items() for _ in range(1 + (spec[name].dtype == "u16"))]
    if mode == _RAW:
        width = reader.byte()
        everything = unpack_fields(reader.take(-(-sum(sizes) * width // 8)), sum(sizes), width)
        reader.end()
    elif mode == _ARRAYS:
        everything = symbols.decode_contexts(reader, sizes)
    elif mode == _PREVIOUS and conditioned:
        previous = _previous(shapes, spec, before)
        if previous is None:
            raise CodecError("no-reference", "entropy: these symbols were coded with previous ones that are not here")
        previous_sizes = key_sizes(previous, 256)
        ordered = symbols.decode_contexts(reader, previous_sizes.tolist())
        everything = scatter(ordered, previous, previous_sizes)
    elif mode == _ADAPTIVE and adapts is not None and all(spec[name].dtype == "u8" for name in shapes):
        everything = adaptive.decode(reader, list(shapes.values()), lambda: adapts.drawn(shapes))
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


def _previous(shapes: Shapes, spec: Spec, before: Arrays | None) -> NDArray[np.uint8] | None:
    """Of every symbol the one before it; None where not all are known."""
    if before is None:
        return None
    found = [before.get(name) for name in shapes]
    if any(
        array is None or array.dtype != np.uint8 or array.shape != shape or spec[name].dtype != "u8"
        for array, (name, shape) in zip(found, shapes.items(), strict=True)
    ):
        return None
    return np.concatenate([np.zeros(0, np.uint8), *(array.reshape(-1) for array in found if array is not None)])


def _planes(array: Array) -> Iterator[NDArray[np.uint8]]:
    """The bytes of each significance, lowest first."""
    flat = array.reshape(-1)
    yield flat if flat.dtype == np.uint8 else (flat & 255).astype(np.uint8)
    if flat.dtype != np.uint8:
        yield (flat >> 8).astype(np.uint8)
