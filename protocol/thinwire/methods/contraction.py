"""Codes inside a loop: what makes the loss of the next one smaller than that of the last.

A loop adds what a code lost of one message to the next one. It converges where a code loses less than it is given,
which unbiased codes of few bits do not (S. P. Karimireddy et al., "Error Feedback Fixes SignSGD and other Gradient
Compression Schemes", ICML 2019, arXiv 1901.09847, Definition 1). So an array a whose decoded form Q(a) is too long is
sent as c a, c = <a, Q(a)> / <Q(a), Q(a)>: since the codecs scale with what they are given, that leaves
||a - c Q(a)||^2 = (1 - cos^2(a, Q(a))) ||a||^2. For `random_k` it undoes the multiplication by 1 / p.

Broadcasts: a chain with `delta` sends the model's difference from what the receivers hold, all that was lost before
included. What they hold is the server's memory, as g in EF21 (P. Richtarik, I. Sokolov, I. Fatkhullin, "EF21: A New,
Simpler, Theoretically Better, and Practically Faster Error Feedback", NeurIPS 2021, arXiv 2106.05203, Algorithm 2), on
the way down as in DoubleSqueeze (H. Tang et al., ICML 2019, arXiv 1905.05957).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from thinwire.codecs import BUFFERS, Array, Arrays, Chain, CodecError, Spec
from thinwire.codecs.delta import Delta

_CONTRACTS: Final = 2 / 3
"""At this c and above a code loses less than it is given: 1 - ||Q(a)||^2 (2 c - 1) / ||a||^2 of its square."""
_MOST_LOST: Final = 0.5
"""Of the square of a model that is broadcast without its difference from the one before."""


def fitting_length(array: Array, decoded: Array) -> float:
    """c, from 0 to 1."""
    wide, found = array.astype(np.float64).reshape(-1), decoded.astype(np.float64).reshape(-1)
    square = float(np.square(found).sum())
    return min(1.0, max(0.0, float((wide * found).sum()) / square)) if square else 1.0


def contractive(arrays: Arrays, spec: Spec, chain: Chain, *, base: Arrays, seed: int) -> tuple[bytes, Arrays]:
    """The payload for holders of `base`, and what they decode. With `delta`, no array of it is farther from `arrays`
    than `base` is, but for rounding.

    Raises: `CodecError`.
    """
    sent = arrays
    for attempt in range(3):
        payload = chain.encode(sent, spec, reference=base, seed=seed)
        if chain.lossless:
            return payload, arrays
        decoded = chain.decode(payload, spec, reference=base, seed=seed)
        lengths = _too_long(arrays, base, decoded) if compares(chain) else {}
        if not lengths:
            break
        # A code that does not scale, as low rank whose factors are rounded, may still be too long then: next time.
        sent = {
            name: _moved(base[name], array, 0.0 if attempt else lengths[name]) if name in lengths else sent[name]
            for name, array in arrays.items()
        }
    return payload, decoded


def _too_long(arrays: Arrays, base: Arrays, decoded: Arrays) -> dict[str, float]:
    """c of the arrays for which it is small."""
    lengths = {
        name: fitting_length(array - base[name], decoded[name] - base[name])
        for name, array in arrays.items()
        if _is_coded(name, array)
    }
    return {name: length for name, length in lengths.items() if length < _CONTRACTS}


def _moved(base: Array, array: Array, length: float) -> Array:
    return np.asarray(base + length * (array - base), dtype=array.dtype)


def compares(chain: Chain) -> bool:
    """Whether it sends differences."""
    return any(isinstance(codec, Delta) for codec in chain.array_codecs)


def require_first_delta(chain: Chain) -> None:
    """Raises `bad-chain` where `delta` meets arrays that another codec has changed, which have no reference."""
    changed = next((codec for codec in chain.array_codecs if not codec.lossless), None)
    if compares(chain) and not isinstance(changed, Delta):
        others = [codec for codec in chain.array_codecs if not isinstance(codec, Delta)]
        first = Chain.of([Delta(), *others, *chain.bytes_codecs])
        raise CodecError("bad-chain", f"{changed and changed.name} changes what delta would compare; write {first}")


def require_bearable(chain: Chain, arrays: Arrays, spec: Spec, seed: int) -> None:
    """Raises `bad-chain` where a chain without `delta` loses most of a model on its way down: nothing that is lost so
    comes with a later broadcast.
    """
    if chain.lossless or compares(chain):
        return
    decoded = chain.decode(chain.encode(arrays, spec, seed=seed), spec, seed=seed)
    lost = whole = 0.0
    for name, array in arrays.items():
        if _is_coded(name, array):
            wide = array.astype(np.float64)
            lost += float(np.square(wide - decoded[name]).sum())
            whole += float(np.square(wide).sum())
    if lost > _MOST_LOST * whole:
        raise CodecError(
            "bad-chain",
            f"the chain {chain} down loses {lost / whole:.0%} of the square of the model in every broadcast, and "
            f"clients would train something else; write delta, {chain}",
        )


@lru_cache(maxsize=64)
def loss_of(chain: Chain) -> float:
    """||a - Q(a)||^2 / ||a||^2 for normal values; 0 where the chain does not code such an array."""
    arrays: Arrays = {"w": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}
    spec = Spec.of(arrays)
    if chain.needs_reference:
        return 0.0
    try:
        decoded = chain.decode(chain.encode(arrays, spec), spec)
    except CodecError:
        return 0.0
    return float(np.square(arrays["w"] - decoded["w"]).sum() / np.square(arrays["w"]).sum())


def _is_coded(name: str, array: Array) -> bool:
    return array.dtype.kind == "f" and not name.startswith(BUFFERS)
