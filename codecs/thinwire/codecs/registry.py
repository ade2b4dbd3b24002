"""Every codec by its wire name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .append import Append
from .byte_shuffle import ByteShuffle
from .cast import Cast
from .delta import Delta
from .entropy import Entropy
from .golomb import Golomb
from .interface import ArrayCodec, BytesCodec
from .low_rank import LowRank
from .pack_bits import PackBits
from .quantise import Quantise
from .random_k import RandomK
from .soft_labels import SoftLabels
from .top_k import TopK
from .zstd import Zstd

CODECS: Final[Mapping[str, type[ArrayCodec] | type[BytesCodec]]] = {
    codec.name: codec
    for codec in (
        Append, Delta, LowRank, TopK, RandomK, SoftLabels, Quantise, Cast, PackBits, Golomb, Entropy,
        ByteShuffle, Zstd,
    )
}  # fmt: skip
