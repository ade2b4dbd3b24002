"""The best of a run's models, by what the clients have measured of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from thinwire.protocol.reasons import ProblemError

USUAL: Final = ("accuracy", "dice", "loss")
"""Where a run names no score: the first of these that its clients measure."""
NONE: Final = "none"
_FALLS: Final = frozenset({"loss"})


@dataclass(frozen=True, slots=True)
class Best:
    """`value`: the score of the model, as `exchange` measured it; `round`: the one that made the model, 0 for the run's
    first. `epoch`: of the checkpoint before the exchange; `model`: digest of the model's file, once the run is over.
    """

    score: str
    value: float
    exchange: int
    round: int
    epoch: int | None = None
    model: bytes | None = None

    def to_plain(self) -> list[Any]:
        """For JSON."""
        digest = None if self.model is None else self.model.hex()
        return [self.score, self.value, self.exchange, self.round, self.epoch, digest]

    @staticmethod
    def from_plain(plain: list[Any]) -> Best:
        score, value, exchange, round_, epoch, digest = plain
        return Best(score, value, exchange, round_, epoch, None if digest is None else bytes.fromhex(digest))


def after(
    best: Sequence[Best], wanted: str | None, metrics: Mapping[str, float], *, exchange: int, round_: int,
    epoch: int | None,
) -> tuple[Best, ...]:  # fmt: skip
    """The best models when this exchange has measured one. `wanted`: as the run's settings say. Of equals the first one
    stays.
    """
    known = {one.score: one for one in best}
    found = []
    for score, rises in _scores(wanted, known, metrics):
        before, value = known.get(score), metrics.get(score, math.nan)
        better = math.isfinite(value) and (before is None or (value > before.value if rises else value < before.value))
        if better:
            found.append(Best(score, value, exchange, round_, epoch))
        elif before is not None:
            found.append(before)
    return tuple(found)


def _scores(wanted: str | None, known: Mapping[str, Best], metrics: Mapping[str, float]) -> Iterator[tuple[str, bool]]:
    """Each score, and whether more of it is better."""
    if wanted == NONE:
        return
    if wanted is None:
        usual = next((score for score in USUAL if score in known or (not known and score in metrics)), None)
        words = [] if usual is None else [usual]
    else:
        words = wanted.split(",")
    for word in words:
        score = word.removeprefix("-")
        yield score, word == score and score not in _FALLS


def best_by(best: Sequence[Best], score: str) -> Best:
    """The best one by this score; "" for the first that is kept. Raises: `no-global-model`, with what there is."""
    for one in best:
        if score in ("", one.score):
            return one
    if not best:
        raise ProblemError("no-global-model", "no best model yet: nothing was measured, or best is none")
    there = ", ".join(one.score for one in best)
    raise ProblemError(
        "no-global-model",
        f"the best model by {score[:32]!r} is not kept, only that by {there}: the setting best of a run says by which",
    )
