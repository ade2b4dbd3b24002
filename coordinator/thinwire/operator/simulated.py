"""A run without a coordinator and a network: its model to the bit, and its bytes as they would be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from thinwire.methods.definition import define
from thinwire.methods.rounds import rounds_of
from thinwire.protocol.messages import ExchangeMetrics, Ledger, RunView
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TRIAL_ID, TrialExchange, TrialPlace, TrialRequest, TrialResult

from .advise_bytes import Overhead, coming, cost_of, seconds_of
from .follow import Step
from .result import Result
from .tables import score_of


class Player(Protocol):
    """As `advise_trials.Trials`."""

    def begin(self) -> TrialPlace: ...
    def follow(self, request: TrialRequest, told: Callable[[TrialExchange], None]) -> TrialResult: ...


class Simulations:
    """Runs that `trials` plays, whose clients all answer in every exchange that asks them."""

    def __init__(self, trials: Player) -> None:
        self._trials = trials
        self._place = trials.begin()

    def play(self, settings: RunSettings, model: Path, step: Step) -> Result:
        """The run, whose model is written to `model` where it has one. `step`: hears of it as it goes on.

        One that diverges is a result, too. Raises: `run-invalid`, `TrialsFailedError`.
        """
        if settings.cohort > self._place.clients:
            raise ProblemError("run-invalid", f"a cohort of {settings.cohort}, of {self._place.clients} clients")
        view = self._view(settings)
        played: list[TrialExchange] = []

        def told(one: TrialExchange) -> None:
            played.append(one)
            running = view.model_copy(update={"round": one.round, "exchange": len(played)})
            step(running, rounds_of(exchanges_of(played, self._place), score_of(view)))

        done = self._trials.follow(TrialRequest(run=settings, model=model.absolute()), told)
        if done.outcome == "refused":
            raise ProblemError("run-invalid", done.reason)
        exchanges = exchanges_of(played, self._place)
        view = view.model_copy(
            update={
                "state": "finished",
                "outcome": "completed" if done.outcome == "completed" else "failed",
                "reason": done.reason or None,
                "round": min(settings.rounds, played[-1].round if played else 0),
                "exchange": len(played),
            }
        )
        score = score_of(view)
        rounds = rounds_of(exchanges, score)
        step(view, rounds)
        return Result(
            view=view, exchanges=exchanges, ledger=Ledger(rows=[], links=[]), kernel={},
            model=model if model.exists() else None, seconds=sum(one.seconds for one in exchanges), score=score,
            played=True,
        )  # fmt: skip

    def _view(self, settings: RunSettings) -> RunView:
        """Raises: `run-invalid`."""
        warnings = define(TRIAL_ID, settings).warnings
        return RunView(
            id=TRIAL_ID, name=settings.name, method=settings.method, state="running", round=0, step=0,
            rounds=settings.rounds, exchange=0, answers=settings.cohort, cohort=settings.cohort,
            parameters=self._place.parameters, created_at=0.0, warnings=warnings or None,
            settings=settings.model_dump(mode="json", by_alias=True, exclude_none=True),
        )  # fmt: skip


def exchanges_of(played: Sequence[TrialExchange], place: TrialPlace) -> list[ExchangeMetrics]:
    """The exchanges of a run that was played, with the bytes that a ledger would show; seconds are of transfers."""
    found: list[ExchangeMetrics] = []
    up = down = 0
    for index, one in enumerate(played):
        cost, begun = cost_of(one), coming(one)
        whole = Overhead(cost.up + begun.up, cost.down + begun.down)
        found.append(
            ExchangeMetrics(
                exchange=index, round=one.round, step=one.step, kind=one.kind, answers=one.clients, offers=1,
                metrics=one.metrics, seconds=seconds_of(one, whole, place),
                uplink_bytes=whole.up, downlink_bytes=whole.down,
                uplink_payload_bytes=one.uplink_bytes, downlink_payload_bytes=one.downlink_bytes,
                uplink_bytes_before=up, downlink_bytes_before=down,
            )
        )  # fmt: skip
        up, down = up + whole.up, down + whole.down
    return found
