"""Whether a run learns anything, from what is measured of its models: a rate that kills a model ends in no error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from thinwire.codecs import Arrays

from .arrays import is_buffer

UNMOVED: Final = "unmoved"
"""The metric of an answer whose training has moved no weight: 1, or not there."""
UNCHECKED: Final = "unchecked"
"""The metric of an answer whose client could not compare what does not travel of its model: a mark of it, between 1 and
2; or not there. Of an exchange: 1, or 2 where these marks differ.
"""
NO_MOVE: Final = (
    "training moves no weight of the model: its units have died, or the rate of training (lr) is far too small. Begin "
    "again with a lower rate, or with a higher one where it is tiny"
)
"""What to say where `moves_nothing`."""
DIVERGING: Final = "diverging"
"""The metric of an answer whose loss only rose while it was trained: how many times its start it was at least, or
`NO_NUMBER`; or not there.
"""
NO_NUMBER: Final = 1e6
_MUCH: Final = 2.0
"""A loss that rises less happens at one client in a run that learns: it is said where it comes twice running."""
_ROUNDS: Final = 2
"""Before so many nothing can be said."""
_LESS: Final = 0.98
_MORE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """Of the model that a round made, 0 being the first one. `score`: accuracy or mean Dice."""

    round: int
    loss: float
    score: float | None = None

    @staticmethod
    def of(round_: int, metrics: Mapping[str, float]) -> Measured | None:
        """What these metrics say; None where they hold no loss."""
        loss = metrics.get("loss")
        return None if loss is None else Measured(round_, loss, metrics.get("accuracy", metrics.get("dice")))


def stands_still(measured: Sequence[Measured]) -> str:
    """What to say where the last of these models is no better than the first of them; "" where it is, or where it is
    too early to say.
    """
    if not measured or measured[-1].round - measured[0].round < _ROUNDS:
        return ""
    first, last = measured[0], measured[-1]
    least = _LESS * first.loss if first.loss > 0 else first.loss
    if last.loss < least or (last.score is not None and first.score is not None and last.score > first.score + _MORE):
        return ""
    best = min(measured, key=lambda one: (-(one.score or 0.0), one.loss))
    said = f"after round {last.round} the model is no better than the first one: {_words(last)}"
    if best.loss < least or (best.score or 0.0) > (first.score or 0.0) + _MORE:
        return f"{said}; after round {best.round} it was {_words(best)}. Lower the rate of training (lr)"
    return f"{said}, at first {_words(first)}. Try other rates of training (lr), the lower ones first"


def diverges(tasks: Sequence[Mapping[str, float]]) -> str:
    """What to say of tasks whose answers had these metrics, in their order; "" where the last does not diverge, or rose
    by little and the one before it did not.
    """
    rises = [metrics.get(DIVERGING) for metrics in tasks[-2:]]
    rise = rises[-1] if rises else None
    if rise is None or (rise < _MUCH and (len(rises) < 2 or rises[0] is None)):
        return ""
    how = "the loss is no number" if rise >= NO_NUMBER else f"the loss is {rise:.3g} times what it was at the start"
    return f"training diverges: {how}. Lower the rate of training (lr), let it rise (warmup-steps), or set clip-norm"


def _words(one: Measured) -> str:
    return f"loss {one.loss:.4g}" + ("" if one.score is None else f" and accuracy {one.score:.3f}")


def moves_nothing(update: Arrays) -> bool:
    """Whether an update changes no weight at all: of arrays with two or more dimensions, where there are any. So end
    models whose units have died, while the last biases still move; and rates that are too small for the numbers.
    """
    trained = [array for name, array in update.items() if array.dtype.kind == "f" and not is_buffer(name)]
    weights = [array for array in trained if array.ndim > 1] or trained
    return bool(weights) and not any(np.any(array) for array in weights)
