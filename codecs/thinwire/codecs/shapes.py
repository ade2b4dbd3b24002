"""Shapes, and what a spec leaves open of them: of arrays that are coded as one string only that is written."""

from __future__ import annotations

import math

from .coding.reading import Reader, varint
from .errors import CodecError
from .spec import Array, Arrays, ArraySpec, Open, Spec

Shapes = dict[str, tuple[int, ...]]


def closed_size(codec: str, name: str, item: ArraySpec) -> int:
    """The number of elements of an array without open dimensions. Raises: `bad-spec`."""
    if not item.is_closed:
        raise CodecError("bad-spec", f"{codec}: array {name!r} has an open dimension")
    return item.max_elements


def max_shapes_bytes(spec: Spec) -> int:
    """The largest size of `write_shapes`; 0 where the spec leaves nothing open."""
    return sum(
        item.optional + sum(len(varint(d.maximum)) for d in item.shape if isinstance(d, Open)) for item in spec.values()
    )


def write_shapes(arrays: Arrays, spec: Spec) -> bytes:
    """Of each array in the order of the spec: 0 or 1, absent or present, if it is optional, then its open dimensions.

    A dimension is a varint.
    """
    out = bytearray()
    for name, item in spec.items():
        array = arrays.get(name)
        if item.optional:
            out.append(array is not None)
        if array is not None:
            for size, dimension in zip(array.shape, item.shape, strict=True):
                if isinstance(dimension, Open):
                    out += varint(size)
    return bytes(out)


def read_shapes(reader: Reader, spec: Spec) -> Shapes:
    """The shapes of the arrays that are present. Raises: `malformed`."""
    shapes = {}
    for name, item in spec.items():
        if item.optional and not reader.varint(1):
            continue
        shapes[name] = tuple(reader.varint(d.maximum) if isinstance(d, Open) else d for d in item.shape)
    return shapes


def sizes_of(shapes: Shapes) -> list[int]:
    """The number of elements of each."""
    return [math.prod(shape) for shape in shapes.values()]


def split(elements: Array, shapes: Shapes) -> dict[str, Array]:
    """The arrays that stand one behind the other, as views."""
    found: dict[str, Array] = {}
    begin = 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        found[name] = elements[begin : begin + size].reshape(shape)
        begin += size
    return found
