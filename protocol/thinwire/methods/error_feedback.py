"""Error feedback: what the uplink chain loses of one answer is added to the next.

S. P. Karimireddy et al., "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", ICML 2019, arXiv
1901.09847, Algorithm 1 with the rate left to the server; with `top_k` the residual of Lin et al., "Deep Gradient
Compression", ICLR 2018, arXiv 1712.01887, without its momentum correction.

Deviation: an array whose decoded form is too long is sent shortened (`contraction`).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from thinwire.codecs import Array, Arrays

from .contraction import fitting_length
from .learner import Learner

_LONG_ENOUGH: Final = 0.9
"""At this c and above the array goes as it is: the loss is below a fifth of it."""


def compensated(arrays: Arrays, residual: Arrays) -> dict[str, Array]:
    """What is to be sent. `residual`: of the last accepted answer, {} at first; arrays without one pass as they are."""
    return {name: array + residual[name] if name in residual else array for name, array in arrays.items()}


def with_residual(arrays: Arrays, learner: Learner) -> tuple[dict[str, Array], dict[str, Array]]:
    """The answer to send for these arrays, and the residual to remember if it is accepted: {} where nothing is lost."""
    answer, decoded = dict(arrays), learner.decoded(arrays)
    lengths = {name: fitting_length(array, decoded[name]) for name, array in arrays.items() if array.dtype.kind == "f"}
    if any(length < _LONG_ENOUGH for length in lengths.values()):
        for name, length in lengths.items():
            if length < _LONG_ENOUGH:
                answer[name] = np.asarray(arrays[name] * length, dtype=arrays[name].dtype)
        decoded = learner.decoded(answer)
    lost = {name: arrays[name] - decoded[name] for name in lengths}
    return answer, {name: array for name, array in lost.items() if array.any()}
