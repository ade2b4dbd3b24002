"""What is to be noted of an exchange that closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of an exchange that is over. `seconds`: how long it was open; `answers`: how many counted; `offers`:
    how often it was offered; `metrics`: means over the answers. Of an asynchronous run, `staleness`: how many answers
    were 0, 1, 2... exchanges old; `older`: the means of earlier exchanges, to which more answers have come.
    """

    exchange: int
    seconds: float
    answers: int
    offers: int
    metrics: Mapping[str, float]
    staleness: Sequence[int] | None = None
    older: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Over:
    """Whose unanswered tasks are late when an exchange closes: those of the exchanges from `first` to before `end`.
    `why`: in words, where it is their age.
    """

    first: int
    end: int
    why: str | None = None
