"""What both ends know about arrays before any byte is sent: names, dtypes, shapes.

A `Spec` is agreed in the plan of a run, so a payload carries only what the spec leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import CodecError

Array = NDArray[Any]
Arrays = Mapping[str, Array]
"""Named arrays. Order carries no meaning; a spec gives the order on the wire."""

# Wire names of the dtypes that may cross the network, always little-endian.
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "bool": np.dtype(np.bool_),
    "u8": np.dtype(np.uint8),
    "i8": np.dtype(np.int8),
    "u16": np.dtype("<u2"),
    "i16": np.dtype("<i2"),
    "u32": np.dtype("<u4"),
    "i32": np.dtype("<i4"),
    "u64": np.dtype("<u8"),
    "i64": np.dtype("<i8"),
    "f16": np.dtype("<f2"),
    "f32": np.dtype("<f4"),
    "f64": np.dtype("<f8"),
}
_NAMES: Final[Mapping[np.dtype[Any], str]] = {dtype: name for name, dtype in DTYPES.items()}

BUFFERS: Final = "buffers/"
"""What a model keeps and does not train (running statistics, masks) has names that begin so: it passes the codecs of
arrays as it is, since what a gradient may lose is not what a variance may.
"""

MAX_ARRAYS: Final = 4096
MAX_NAME_LENGTH: Final = 200
MAX_DIMENSIONS: Final = 8
MAX_BYTES: Final = 1 << 36  # of one whole bundle; a bound against absurd specs, not a target


@dataclass(frozen=True, slots=True)
class Open:
    """A dimension that the sender chooses, from 0 to `maximum`."""

    maximum: int


Dimension = int | Open


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array: its dtype (a key of `DTYPES`), its shape, and whether it may be left out."""

    dtype: str
    shape: tuple[Dimension, ...] = ()
    optional: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CodecError("bad-spec", f"dtype {self.dtype!r} is none of {', '.join(DTYPES)}")
        if len(self.shape) > MAX_DIMENSIONS:
            raise CodecError("bad-spec", f"{len(self.shape)} dimensions; at most {MAX_DIMENSIONS}")
        for dimension in self.shape:
            size = dimension.maximum if isinstance(dimension, Open) else dimension
            if not 0 <= size <= MAX_BYTES:
                raise CodecError("bad-spec", f"dimension {dimension} is out of range")
        if self.max_bytes > MAX_BYTES:
            raise CodecError("bad-spec", f"an array of up to {self.max_bytes} bytes; at most {MAX_BYTES}")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return DTYPES[self.dtype]

    @property
    def is_floating(self) -> bool:
        return self.dtype[0] == "f"

    @property
    def is_closed(self) -> bool:
        """Whether the shape is known, without an open dimension."""
        return not any(isinstance(d, Open) for d in self.shape)

    @property
    def max_shape(self) -> tuple[int, ...]:
        """The largest shape this spec admits."""
        return tuple(d.maximum if isinstance(d, Open) else d for d in self.shape)

    @property
    def max_elements(self) -> int:
        return math.prod(self.max_shape)

    @property
    def max_bytes(self) -> int:
        return self.max_elements * self.numpy_dtype.itemsize

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        return len(shape) == len(self.shape) and all(
            0 <= size <= d.maximum if isinstance(d, Open) else size == d
            for size, d in zip(shape, self.shape, strict=True)
        )

    def to_plain(self) -> list[Any]:
        """`[dtype, [dimension, ...]]`, an open dimension as `{"max": n}`, with a third item `true` if optional."""
        shape = [{"max": d.maximum} if isinstance(d, Open) else d for d in self.shape]
        return [self.dtype, shape, True] if self.optional else [self.dtype, shape]

    @staticmethod
    def from_plain(plain: object) -> ArraySpec:
        """The inverse of `to_plain`. Raises: `bad-spec`."""
        if not isinstance(plain, list) or len(plain) not in (2, 3) or not isinstance(plain[1], list):
            raise CodecError("bad-spec", "an array spec is [dtype, [dimensions]] or [dtype, [dimensions], true]")
        if not isinstance(plain[0], str) or (len(plain) == 3 and plain[2] is not True):
            raise CodecError("bad-spec", "an array spec is [dtype, [dimensions]] or [dtype, [dimensions], true]")
        return ArraySpec(plain[0], tuple(_dimension(d) for d in plain[1]), optional=len(plain) == 3)


def _dimension(plain: object) -> Dimension:
    if isinstance(plain, int) and not isinstance(plain, bool):
        return plain
    if isinstance(plain, dict) and list(plain) == ["max"]:
        maximum = plain["max"]
        if isinstance(maximum, int) and not isinstance(maximum, bool):
            return Open(maximum)
    raise CodecError("bad-spec", 'a dimension is a number or {"max": number}')


class Spec(Mapping[str, ArraySpec]):
    """An ordered mapping of array names to `ArraySpec`; immutable and hashable."""

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, ArraySpec] | Iterable[tuple[str, ArraySpec]] = ()) -> None:
        pairs: list[tuple[str, ArraySpec]] = list(items.items()) if isinstance(items, Mapping) else list(items)
        self._items: dict[str, ArraySpec] = dict(pairs)
        if len(self._items) != len(pairs):
            raise CodecError("bad-spec", "the same name twice")
        if len(pairs) > MAX_ARRAYS:
            raise CodecError("bad-spec", f"{len(pairs)} arrays; at most {MAX_ARRAYS}")
        for name in self._items:
            if not isinstance(name, str) or not 0 < len(name.encode()) <= MAX_NAME_LENGTH:
                raise CodecError("bad-spec", f"an array's name has 1 to {MAX_NAME_LENGTH} bytes, not {name!r}")
        if self.max_bytes > MAX_BYTES:
            raise CodecError("bad-spec", f"arrays of up to {self.max_bytes} bytes; at most {MAX_BYTES}")
        self._hash = hash(tuple(self._items.items()))

    @staticmethod
    def of(arrays: Arrays) -> Spec:
        """The spec that exactly these arrays have. Raises: `bad-spec` for a dtype that cannot travel."""
        items = []
        for name, array in arrays.items():
            dtype = _NAMES.get(array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype)
            if dtype is None:
                raise CodecError("bad-spec", f"array {name!r} has dtype {array.dtype}, which cannot travel")
            items.append((name, ArraySpec(dtype, array.shape)))
        return Spec(items)

    def __getitem__(self, name: str) -> ArraySpec:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and list(self._items.items()) == list(other._items.items())

    def __repr__(self) -> str:
        return f"Spec({self._items!r})"

    @property
    def max_bytes(self) -> int:
        """Of all arrays together, at their largest."""
        return sum(item.max_bytes for item in self._items.values())

    @property
    def max_elements(self) -> int:
        return sum(item.max_elements for item in self._items.values())

    def with_optional(self) -> Spec:
        """The same spec, every array of which may be left out."""
        return Spec((name, replace(item, optional=True)) for name, item in self.items())

    def check(self, arrays: Arrays) -> None:
        """Raises `does-not-fit` unless these arrays are what the spec demands."""
        for name in arrays:
            if name not in self._items:
                raise CodecError("does-not-fit", f"array {name!r} is not in the spec")
        for name, item in self._items.items():
            array = arrays.get(name)
            if array is None:
                if not item.optional:
                    raise CodecError("does-not-fit", f"array {name!r} is missing")
            elif array.dtype != item.numpy_dtype:
                raise CodecError("does-not-fit", f"array {name!r} has dtype {array.dtype}, not {item.dtype}")
            elif not item.admits(array.shape):
                raise CodecError("does-not-fit", f"array {name!r} has shape {array.shape}, not {item.shape}")

    def to_plain(self) -> dict[str, Any]:
        """What msgpack and JSON carry: name -> `ArraySpec.to_plain()`, in order."""
        return {name: item.to_plain() for name, item in self._items.items()}

    @staticmethod
    def from_plain(plain: object) -> Spec:
        """The inverse of `to_plain`. Raises: `bad-spec`."""
        if not isinstance(plain, dict):
            raise CodecError("bad-spec", "a spec is a mapping of names to array specs")
        return Spec((name, ArraySpec.from_plain(item)) for name, item in plain.items())
