"""`byte_shuffle`: bytes of equal significance side by side, so that a general compressor sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .errors import CodecError
from .interface import BytesCodec


@dataclass(frozen=True, slots=True)
class ByteShuffle(BytesCodec):
    """Byte i of every group of `width` bytes, for i = 0 .. width - 1; a tail shorter than `width` stays behind them.

    Costs no byte. `width` is the element size of the arrays that dominate: 4 for float32.
    """

    name: ClassVar[str] = "byte_shuffle"

    width: int = 4

    def __post_init__(self) -> None:
        if type(self.width) is not int or not 2 <= self.width <= 16:
            raise CodecError("bad-chain", f"byte_shuffle takes a width from 2 to 16, not {self.width!r}")

    def encode(self, data: bytes) -> bytes:
        whole = len(data) - len(data) % self.width
        planes = np.frombuffer(data, np.uint8, whole).reshape(-1, self.width).T
        return planes.tobytes() + data[whole:]

    def decode(self, data: bytes, *, limit: int) -> bytes:
        """Raises: `too-large`."""
        if len(data) > limit:
            raise CodecError("too-large", f"{len(data)} bytes where at most {limit} are expected")
        whole = len(data) - len(data) % self.width
        groups = np.frombuffer(data, np.uint8, whole).reshape(self.width, -1).T
        return groups.tobytes() + data[whole:]
