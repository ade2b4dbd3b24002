"""What a run has come to: what the coordinator says of it, and what its clients' kernels counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from thinwire.methods.rounds import Round, rounds_of
from thinwire.protocol.messages import ExchangeMetrics, Ledger, RunView
from thinwire.protocol.reasons import ProblemError

from .client import Coordinator
from .tables import score_of


@dataclass(frozen=True, slots=True)
class Result:
    """A run that is over. `kernel`: client -> (sent, received) bytes as its kernel counted, to the last one.
    `score`: what stands in the place of accuracy, None for that itself. `played`: without a network, so that framing
    and `seconds`, those of its transfers, are foretold and not counted.
    """

    view: RunView
    exchanges: list[ExchangeMetrics]
    ledger: Ledger
    kernel: Mapping[str, tuple[int, int]]
    model: Path | None
    seconds: float
    score: str | None = None
    played: bool = False

    @property
    def rounds(self) -> list[Round]:
        return rounds_of(self.exchanges, self.score)

    @property
    def by_name(self) -> list[Round]:
        """The same with every score under its own name, and accuracy as what it is."""
        return rounds_of(self.exchanges)


def result_of(
    operator: Coordinator, view: RunView, model: Path, *, seconds: float | None = None,
    kernel: Mapping[str, tuple[int, int]] | None = None,
) -> Result:  # fmt: skip
    """What the coordinator says of a run that is over; its model, if it has one, is written to `model`. `seconds`: it
    took; else those of its rounds.
    """
    try:
        operator.pull(view.id, model)
    except ProblemError as error:
        if error.reason not in ("no-global-model", "model-not-ready"):
            raise
    exchanges = operator.metrics(view.id)
    return Result(
        view=view,
        exchanges=exchanges,
        ledger=operator.ledger(view.id),
        kernel=kernel or {},
        score=score_of(view),
        model=model if model.exists() else None,
        seconds=sum(one.cost.seconds for one in rounds_of(exchanges)) if seconds is None else seconds,
    )
