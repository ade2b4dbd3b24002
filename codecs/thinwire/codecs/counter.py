"""Random bits that both ends draw alike: integers from a counter, no float decides anything.

Philox4x64-10 (J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). The key is the first 16
bytes of SHA-256 of the seed (8 bytes, little-endian) followed by the name in UTF-8, as two little-endian 64-bit words;
the counter is 1 for the first four outputs and grows by 1 for each four more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 16  # elements drawn at once; even, since one output makes two


def uniform_bits(seed: int, name: str, count: int) -> NDArray[np.uint32]:
    """`count` independent uint32, uniform: element 2 i is the low half of output i of the generator, 2 i + 1 the high.

    A client that draws m = 1[u < theta] compares with the integer rint(theta * 2**32), so that both ends agree.
    `seed`: 0 to 2**64 - 1.
    """
    raw = _generator(seed, name).random_raw((count + 1) // 2)
    return np.asarray(raw, "<u8").view("<u4")[:count]


def uniform_blocks(seed: int, name: str, count: int) -> Iterator[NDArray[np.uint32]]:
    """The same numbers as `uniform_bits`, `BLOCK` at a time: memory does not grow with `count`."""
    generator = _generator(seed, name)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        yield np.asarray(generator.random_raw((size + 1) // 2), "<u8").view("<u4")[:size]


def _generator(seed: int, name: str) -> np.random.Philox:
    digest = hashlib.sha256((seed & (1 << 64) - 1).to_bytes(8, "little") + name.encode()).digest()
    return np.random.Philox(key=np.frombuffer(digest, "<u8", 2).astype(np.uint64))
