"""Every codec by its wire name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .byte_shuffle import ByteShuffle
from .cast import Cast
from .delta import Delta
from .interface import ArrayCodec, BytesCodec
from .low_rank import LowRank
from .zstd import Zstd

CODECS: Final[Mapping[str, type[ArrayCodec] | type[BytesCodec]]] = {
    codec.name: codec for codec in (Delta, Cast, LowRank, ByteShuffle, Zstd)
}
