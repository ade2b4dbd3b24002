"""Error feedback: what the uplink chain loses of one answer is added to the next.

S. P. Karimireddy et al., "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", ICML 2019, arXiv
1901.09847, Algorithm 1 with the rate left to the server; with `top_k` the residual of Lin et al., "Deep Gradient
Compression", ICLR 2018, arXiv 1712.01887, without its momentum correction.

Deviation: the theory asks for a compressor that loses less than it is given (there Definition 1). Unbiased ones of few
bits lose more, and their residuals would grow without end. So an array a whose decoded form Q(a) is too long is sent as
c a, c = <a, Q(a)> / <Q(a), Q(a)>: since the codecs scale with what they are given, that leaves
||a - c Q(a)||^2 = (1 - cos^2(a, Q(a))) ||a||^2. For `random_k` it undoes the multiplication by 1 / p.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from thinwire.codecs import Array, Arrays

from .learner import Learner

_LONG_ENOUGH: Final = 0.9
"""At this c and above the array goes as it is: the loss is below a fifth of it."""


def compensated(arrays: Arrays, residual: Arrays) -> dict[str, Array]:
    """What is to be sent. `residual`: of the last accepted answer, {} at first; arrays without one pass as they are."""
    return {name: array + residual[name] if name in residual else array for name, array in arrays.items()}


def with_residual(arrays: Arrays, learner: Learner) -> tuple[dict[str, Array], dict[str, Array]]:
    """The answer to send for these arrays, and the residual to remember if it is accepted: {} where nothing is lost."""
    answer, decoded = dict(arrays), learner.decoded(arrays)
    lengths = {name: _length(array, decoded[name]) for name, array in arrays.items() if array.dtype.kind == "f"}
    if any(length < _LONG_ENOUGH for length in lengths.values()):
        for name, length in lengths.items():
            if length < _LONG_ENOUGH:
                answer[name] = np.asarray(arrays[name] * length, dtype=arrays[name].dtype)
        decoded = learner.decoded(answer)
    lost = {name: arrays[name] - decoded[name] for name in lengths}
    return answer, {name: array for name, array in lost.items() if array.any()}


def _length(array: Array, decoded: Array) -> float:
    """c, at most 1."""
    wide, found = array.astype(np.float64).reshape(-1), decoded.astype(np.float64).reshape(-1)
    square = float(np.square(found).sum())
    return min(1.0, max(0.0, float((wide * found).sum()) / square)) if square else 1.0
