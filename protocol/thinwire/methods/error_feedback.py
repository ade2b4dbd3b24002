"""Error feedback: what the uplink chain loses of one answer is added to the next."""

from __future__ import annotations

from thinwire.codecs import Array, Arrays

from .interface import Learner


def with_feedback(arrays: Arrays, residual: Arrays, learner: Learner) -> tuple[dict[str, Array], dict[str, Array]]:
    """The answer to send, and the residual to remember if it is accepted: {} where the chain loses nothing.

    `residual`: of the last accepted answer, {} at first; arrays without one pass as they are. S. P. Karimireddy et al.,
    "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", ICML 2019, arXiv 1901.09847, Algorithm 1 with
    the rate left to the server.
    """
    answer = {name: array + residual[name] if name in residual else array for name, array in arrays.items()}
    decoded = learner.decoded(answer)
    lost = {name: array - decoded[name] for name, array in answer.items() if array.dtype.kind == "f"}
    return answer, {name: array for name, array in lost.items() if array.any()}
