"""The container: named arrays as bytes, at a few bytes of header per array.

Layout: one msgpack value, then the raw segments, nothing between or behind them. The value is an
array with one entry per array that is present, in the order of the spec: `[index, dimension, ...]`, where
`index` counts the arrays of the spec from 0 and a dimension is given for each one that the spec leaves
open, in order. An entry without open dimensions is the bare `index`. When exactly the arrays of the
spec are present and no dimension is open, the value is `nil`: one byte for the whole header. A segment is
the array's elements in C order, little-endian, `bool` as one byte 0 or 1; its length follows from
dtype and shape. The header is in msgpack's shortest form and at most 64 KiB, so the same arrays give
the same bytes, and bytes that no encoder writes are refused.
"""

from __future__ import annotations

import math
from typing import Final

import msgpack
import numpy as np

from .errors import CodecError
from .spec import MAX_DIMENSIONS, Array, Arrays, Open, Spec

MAX_HEADER_BYTES: Final = 1 << 16


def max_container_bytes(spec: Spec) -> int:
    """An upper bound of the container's size for arrays of this spec."""
    dimensions = sum(sum(isinstance(d, Open) for d in item.shape) for item in spec.values())
    header = 5 + 10 * len(spec) + 9 * dimensions
    return spec.max_bytes + min(header, MAX_HEADER_BYTES)


def pack_arrays(arrays: Arrays, spec: Spec) -> bytes:
    """The container's bytes. Raises: `does-not-fit`, `bad-spec` (header over 64 KiB)."""
    return b"".join(container_pieces(arrays, spec))


def container_pieces(arrays: Arrays, spec: Spec) -> list[bytes | memoryview]:
    """The container in pieces that follow each other, the segments as views: what is written need not be copied.

    Raises: as `pack_arrays`.
    """
    spec.check(arrays)
    entries: list[int | list[int]] = []
    segments: list[Array] = []
    for index, (name, item) in enumerate(spec.items()):
        array = arrays.get(name)
        if array is None:
            continue
        sizes = [size for size, d in zip(array.shape, item.shape, strict=True) if isinstance(d, Open)]
        entries.append([index, *sizes] if sizes else index)
        # order="C" without ascontiguousarray, which would turn a 0-d array into a 1-d one.
        segments.append(np.asarray(array, dtype=item.numpy_dtype, order="C"))
    everything = entries == list(range(len(spec)))
    header = msgpack.packb(None if everything else entries)
    if len(header) > MAX_HEADER_BYTES:
        raise CodecError("bad-spec", f"a header of {len(header)} bytes; at most {MAX_HEADER_BYTES}")
    return [header, *(s.reshape(-1).view(np.uint8).data for s in segments if s.size)]


def unpack_arrays(data: bytes, spec: Spec) -> dict[str, Array]:
    """The arrays, as read-only views into `data`. Raises: `malformed`, `does-not-fit`, `too-large`."""
    shapes, offset = _read_header(data, spec)
    total = sum(math.prod(shape) * spec[name].numpy_dtype.itemsize for name, shape in shapes.items())
    if total != len(data) - offset:
        raise CodecError("malformed", f"{len(data) - offset} bytes of segments where the header promises {total}")
    arrays: dict[str, Array] = {}
    for name, shape in shapes.items():
        dtype = spec[name].numpy_dtype
        count = math.prod(shape)
        array: Array
        if dtype == np.bool_:
            raw = np.frombuffer(data, np.uint8, count, offset)
            if count and raw.max() > 1:
                raise CodecError("malformed", f"array {name!r} holds a bool that is neither 0 nor 1")
            array = raw.view(np.bool_).reshape(shape)
        else:
            array = np.frombuffer(data, dtype, count, offset).reshape(shape)
        arrays[name] = array
        offset += count * dtype.itemsize
    return arrays


def _read_header(data: bytes, spec: Spec) -> tuple[dict[str, tuple[int, ...]], int]:
    """The shapes of the arrays that are present, and where the segments start."""
    unpacker = msgpack.Unpacker(
        max_buffer_size=MAX_HEADER_BYTES,
        max_array_len=max(len(spec), 1 + MAX_DIMENSIONS),
        max_map_len=0,
        max_str_len=0,
        max_bin_len=0,
        max_ext_len=0,
    )
    unpacker.feed(data[:MAX_HEADER_BYTES])
    try:
        header = unpacker.unpack()
    except (msgpack.UnpackException, ValueError) as error:
        raise CodecError("malformed", f"the header cannot be read: {type(error).__name__}") from None
    offset = unpacker.tell()
    if msgpack.packb(header) != data[:offset]:
        raise CodecError("malformed", "the header is not in its shortest form")
    if header is None:
        header = list(range(len(spec)))
    elif header == list(range(len(spec))):
        raise CodecError("malformed", "the header is not in its shortest form")
    if not isinstance(header, list):
        raise CodecError("malformed", "the header is neither nil nor an array")

    names = list(spec)
    shapes: dict[str, tuple[int, ...]] = {}
    previous = -1
    for entry in header:
        index, *sizes = entry if isinstance(entry, list) and entry else [entry]
        if any(type(value) is not int for value in (index, *sizes)):
            raise CodecError("malformed", "the header holds something that is not a number")
        if not previous < index < len(names):
            raise CodecError("malformed", f"array index {index} after {previous} of {len(names)}")
        previous = index
        item = spec[names[index]]
        given = iter(sizes)
        shape = tuple(next(given, -1) if isinstance(d, Open) else d for d in item.shape)
        if isinstance(entry, list) != any(isinstance(d, Open) for d in item.shape) or len(sizes) != sum(
            isinstance(d, Open) for d in item.shape
        ):
            raise CodecError("malformed", f"array {names[index]!r} comes with {len(sizes)} dimensions")
        if not item.admits(shape):
            raise CodecError("too-large", f"array {names[index]!r} of shape {shape} does not fit {item.shape}")
        shapes[names[index]] = shape
    for name, item in spec.items():
        if not item.optional and name not in shapes:
            raise CodecError("does-not-fit", f"array {name!r} is missing")
    return shapes, offset
