"""How the payloads of an exchange are written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeGuard

import numpy as np

from thinwire.codecs import Append, Arrays, Chain, CodecError, Spec
from thinwire.codecs.quantise import Quantise


@dataclass(frozen=True, slots=True)
class Chains:
    """How the payloads of one kind of exchange are written.

    `down`: broadcast parts; where it needs a reference, clients without the base get the part in `full`, which needs
    none and is lossless. `up`: answers. `private`: parts for one client.
    """

    down: Chain = field(default_factory=Chain)
    up: Chain = field(default_factory=Chain)
    full: Chain = field(default_factory=Chain)
    private: Chain = field(default_factory=Chain)

    @staticmethod
    def parse(down: str = "", up: str = "", full: str = "byte_shuffle, zstd", private: str = "") -> Chains:
        return Chains(Chain.parse(down), Chain.parse(up), Chain.parse(full), Chain.parse(private))

    @staticmethod
    def plain() -> Chains:
        """Raw arrays in all directions: the baseline of every comparison."""
        return Chains()

    @property
    def follows_any(self) -> bool:
        """Whether a broadcast part can be written against any older one of its name: what grows, `append`."""
        return self.down.lossless and any(isinstance(codec, Append) for codec in self.down.array_codecs)

    @property
    def whole(self) -> Chain:
        """The chain of a broadcast part for a client that holds no base."""
        return self.full if self.down.needs_reference else self.down

    def at(self, round_: int, rounds: int) -> Chains:
        """As they are in force in a round, counted from 1, of so many."""
        if not any(chain.changes for chain in (self.down, self.up, self.full, self.private)):
            return self
        down, up, full, private = (one.at(round_, rounds) for one in (self.down, self.up, self.full, self.private))
        return Chains(down, up, full, private)

    def with_bits(self, most: int) -> Chains:
        """The same, `quantise` with no more than so many bits; bits that change over the run are left alone."""
        return replace(self, down=_with_bits(self.down, most), up=_with_bits(self.up, most))


def bits_of(chain: Chain) -> int | None:
    """Those of its `quantise`, where fewer make a payload smaller: a code of bytes follows, and no `spread` says how
    large a step is. Else None.
    """
    return (
        next((codec.bits for codec in chain.array_codecs if _is_lowerable(codec)), None) if chain.bytes_codecs else None
    )


@lru_cache(maxsize=256)
def size_of(chain: Chain) -> int:
    """Bytes of a payload of 4,096 normal values, to compare chains by; 1 where the chain does not code such arrays."""
    arrays: Arrays = {"w": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}
    reference = {"w": np.zeros_like(arrays["w"])} if chain.needs_reference else None
    try:
        return len(chain.encode(arrays, Spec.of(arrays), reference=reference))
    except CodecError:
        return 1


def _is_lowerable(codec: object) -> TypeGuard[Quantise]:
    return isinstance(codec, Quantise) and not codec.spread


def _with_bits(chain: Chain, most: int) -> Chain:
    codecs = (replace(one, bits=min(one.bits, most)) if _is_lowerable(one) else one for one in chain.array_codecs)
    return replace(chain, array_codecs=tuple(codecs))
