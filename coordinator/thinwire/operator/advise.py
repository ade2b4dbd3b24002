"""An advice for one's own data: many short runs, the better ones longer, and what the best of them cost.

Successive halving: K. Jamieson, A. Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
AISTATS 2016, with three stages: rates, then chains and methods on half the examples and half the rounds, then the front
of those on all examples and rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TrialPlace, TrialRequest, TrialResult

from .advise_bytes import Point, points_of
from .advise_space import Candidate, coarse_candidates, rate_candidates

SHARE: Final = 0.5
"""Of examples and of rounds, before the last stage."""
FEW: Final = 200
"""Examples of a client of which no half is taken: a step's size tells little after a handful of steps."""
STAGES: Final = (0.25, 0.65, 0.95)
"""Of the budget, by when each stage begins nothing more."""
FINALISTS: Final = 5
ATTEMPTS: Final = 6
"""Runs that are shortened until one keeps within a budget of bytes."""
LEARNS: Final = 0.99
"""Times the loss at the start: what a rate must come below to count as one that learns."""
Told = Callable[[str, float], None]
"""What is being tried, and how much of the budget is spent, from 0 to 1."""


class Player(Protocol):
    """As `advise_trials.Trials`."""

    @property
    def spent_s(self) -> float: ...
    def begin(self) -> TrialPlace: ...
    def play(self, request: TrialRequest) -> TrialResult: ...


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked for; neither: the best accuracy. `target`: of the measure; `max_bytes`: of the whole run."""

    rounds: int
    target: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate on all examples. `settings`: those that were played; `points`: after each round."""

    candidate: Candidate
    settings: RunSettings
    points: Sequence[Point]


@dataclass(slots=True)
class Advice:
    """`measure`: accuracy, or whatever the task has in its place; `tried`: the finalists, best first; `dropped`: name
    -> why; `untried`: names, where the budget ended; `chosen`: None where nothing learns; `reached`: whether it does
    what was asked.
    """

    measure: str
    place: TrialPlace
    tried: list[Tried] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    untried: list[str] = field(default_factory=list)
    chosen: Tried | None = None
    reached: bool = False


def value(scores: Mapping[str, float], measure: str) -> float:
    """Larger is better, whatever it is."""
    found = scores.get(measure)
    return float("-inf") if found is None else -found if measure == "loss" else found


def advise(trials: Player, goal: Goal, seed: int, budget_s: float, told: Told) -> Advice:
    """Tries until the budget of seconds is spent; the trials of an earlier start count, and are not played again."""
    place = trials.begin()
    search = _Search(trials, goal, seed, budget_s, told, place)
    rates = search.rates()
    if rates:
        search.finals(search.coarse(rates))
        search.choose()
    return search.advice


class _Search:
    def __init__(self, trials: Player, goal: Goal, seed: int, budget_s: float, told: Told, place: TrialPlace) -> None:
        self._trials, self._goal, self._seed, self._told = trials, goal, seed, told
        self._budget_s = budget_s
        self._place = place
        self.advice = Advice("accuracy", place)
        self._share = 1.0 if place.examples < FEW * place.clients else SHARE
        self._short = max(2, round(goal.rounds * SHARE))

    def rates(self) -> list[Mapping[str, Any]]:
        """Settings of those that learn, the best first."""
        found: list[tuple[float, float, Mapping[str, Any]]] = []
        for candidate in self._while_time(rate_candidates(), STAGES[0]):
            points = self._play(candidate, self._short, self._share)
            if points is None:
                continue
            self.advice.measure = _measure(points)
            before, after = (points[index].scores["loss"] for index in (0, -1))
            if after > LEARNS * before:
                rounds = points[-1].rounds
                self.advice.dropped[candidate.name] = (
                    f"learns nothing: the loss is {after:.3g} after {rounds} rounds, {before:.3g} before"
                )
                continue
            found.append((self._value(points[-1]), -after, candidate.settings))
        return [settings for *_, settings in sorted(found, key=lambda one: one[:2], reverse=True)]

    def coarse(self, rates: list[Mapping[str, Any]]) -> list[Candidate]:
        """The front of chains and methods, by bytes and score of short runs."""
        found: list[tuple[Candidate, Point]] = []
        for candidate in self._while_time(coarse_candidates(rates), STAGES[1]):
            points = self._play(candidate, self._short, self._share)
            if points is not None:
                found.append((candidate, points[-1]))
        kept = [
            (one, point)
            for one, point in found
            if not any(self._value(other) > self._value(point) and other.wire <= point.wire for _, other in found)
        ]
        kept.sort(key=lambda pair: self._value(pair[1]), reverse=True)
        names = [one for one, _ in kept]
        names += [one for one, point in sorted(found, key=lambda p: -self._value(p[1])) if one not in names]
        return names[:FINALISTS]

    def finals(self, candidates: Sequence[Candidate]) -> None:
        """Those candidates on all examples, for all rounds; one at least."""
        for candidate in self._while_time(candidates, STAGES[2], least=1):
            points = self._play(candidate, self._goal.rounds, 1.0)
            if points is not None:
                settings = candidate.made(self._goal.rounds, self._place.clients, self._seed)
                self.advice.tried.append(Tried(candidate, settings, points))
        self.advice.tried.sort(key=lambda one: -self._value(one.points[-1]))

    def choose(self) -> None:
        """The one that does what was asked for the fewest bytes, with as many rounds as it takes; else the nearest."""
        goal, tried, advice = self._goal, self.advice.tried, self.advice
        if not tried:
            return
        wanted = None if goal.target is None else -goal.target if advice.measure == "loss" else goal.target
        if wanted is not None:
            reaching = [(p.wire, i, p.rounds) for i, one in enumerate(tried) if (p := self._first(one, wanted))]
            for _, index, rounds in sorted(reaching):
                # A schedule follows from the number of rounds: the shorter run is played, not read off the longer.
                advice.chosen = self._shortened(tried[index], rounds, wanted)
                advice.reached = self._value(advice.chosen.points[-1]) >= wanted
                if advice.reached:
                    return
        if goal.max_bytes is not None:
            advice.chosen = min(tried, key=lambda one: one.points[-1].wire)
            for _, index, rounds in sorted(self._within(goal.max_bytes), reverse=True)[:ATTEMPTS]:
                found = self._shortened(tried[index], rounds, None)
                if found.points[-1].wire <= goal.max_bytes:
                    advice.chosen, advice.reached = found, True
                    return
            return
        if advice.chosen is None or not advice.reached:
            advice.chosen = tried[0]
            advice.reached = wanted is None

    def _first(self, one: Tried, wanted: float) -> Point | None:
        return next((point for point in one.points if point.rounds and self._value(point) >= wanted), None)

    def _within(self, most: int) -> list[tuple[float, int, int]]:
        """What the bytes may allow: score, number among those that were tried, rounds. A run that ends there costs an
        evaluation besides, which is told when it is played.
        """
        return [
            (self._value(point), index, point.rounds)
            for index, one in enumerate(self.advice.tried)
            for point in one.points
            if point.rounds and point.wire <= most
        ]

    def _shortened(self, one: Tried, rounds: int, wanted: float | None) -> Tried:
        for count in [rounds, min(rounds + max(1, rounds // 4), self._goal.rounds)]:
            if count >= self._goal.rounds:
                return one
            points = self._play(one.candidate, count, 1.0)
            if points is not None and (wanted is None or self._value(points[-1]) >= wanted):
                return Tried(one.candidate, one.candidate.made(count, self._place.clients, self._seed), points)
        return one

    def _value(self, point: Point) -> float:
        return value(point.scores, self.advice.measure)

    def _while_time(self, candidates: Iterable[Candidate], until: float, least: int = 2) -> Iterable[Candidate]:
        for index, candidate in enumerate(candidates):
            if index >= least and self._trials.spent_s > until * self._budget_s:
                self.advice.untried.append(candidate.name)
                continue
            yield candidate

    def _play(self, candidate: Candidate, rounds: int, share: float) -> Sequence[Point] | None:
        """None, and why, where it does not go with the task or diverges."""
        self._told(candidate.name, min(1.0, self._trials.spent_s / self._budget_s))
        run = candidate.made(rounds, self._place.clients, self._seed)
        result = self._trials.play(TrialRequest(run=run, share=share))
        if result.outcome != "completed":
            self.advice.dropped[candidate.name] = f"{result.outcome}: {result.reason}"
            return None
        points = points_of(result, self._place)
        if len(points) < 2 or not points[-1].scores:
            self.advice.dropped[candidate.name] = "diverged: what it measures is no number any more"
            return None
        return points


def _measure(points: Sequence[Point]) -> str:
    """What is to be large, or else small: the loss."""
    return next((name for name in ("accuracy", "dice") if name in points[0].scores), "loss")


def plain(settings: RunSettings) -> dict[str, Any]:
    """As `run_file.as_toml` takes them."""
    return settings.model_dump(mode="json", by_alias=True)
