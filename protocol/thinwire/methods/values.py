"""What passes between the two halves of a method, and what each keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from thinwire.codecs import Arrays, Spec

Scalar = bool | int | float | str
CohortRule = Literal["new", "same"]
EVALUATE: Final = "evaluate"
"""The kind of the exchange after the last round: a task without a reply, answered with metrics only."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything a server half knows between two exchanges; a checkpoint is `pack_state(state)`.

    `round` counts from 1, `step` from 0 within the round; `arrays` may have any names and dtypes of `DTYPES`.
    """

    round: int
    step: int
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class Task:
    """One exchange: what goes out to every client of the cohort, and what must come back.

    `parts`: part name -> named arrays. A part is sent as one payload, and only to clients that do not hold it;
    array names are unique over all parts. On the server these are the exact arrays, on a client the decoded ones.
    `reply`: the arrays an answer must hold. `cohort`: "new" is sampled for this exchange, "same" is exactly the
    clients whose answers counted in the previous exchange of this round. `options`: what changes from task to
    task (a learning rate, say); what is constant belongs in the settings. `specs`: of parts whose arrays have open
    dimensions, by part; what a part holds says the rest.
    """

    round: int
    step: int
    kind: str
    parts: Mapping[str, Arrays]
    reply: Spec
    cohort: CohortRule = "new"
    options: Mapping[str, Scalar] = field(default_factory=dict)
    specs: Mapping[str, Spec] = field(default_factory=dict)

    def spec(self, part: str) -> Spec:
        """Of a part of `parts`, as the plan has it."""
        return self.specs.get(part) or Spec.of(self.parts[part])

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays of all parts together."""
        return {name: array for part in self.parts.values() for name, array in part.items()}


@dataclass(frozen=True, slots=True)
class Contribution:
    """A decoded, checked answer: what the reducer sees.

    `slot`: the client's index in the cohort; `client`: its stable name; `examples`: its weight n_k >= 1, capped by
    the run's `max-examples`; `arrays` fit `Task.reply`; `staleness`: by how many exchanges the one that counts it is
    younger than the one whose task it answers, 0 but in asynchronous runs.
    """

    slot: int
    client: str
    examples: int
    arrays: Arrays
    metrics: Mapping[str, float] = field(default_factory=dict)
    staleness: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client sends back. `metrics`: loss, accuracy, examples, seconds, and up to 8 scalars of the user's own."""

    arrays: Arrays
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, and what the client will remember once it knows the verdict. Memories are named arrays."""

    answer: Answer
    memory_if_accepted: Arrays
    memory_if_refused: Arrays


class TaskPassedError(Exception):
    """This client cannot do this one task; it may do the next one, of the same plan too."""


class TaskRefusedError(Exception):
    """This client will not do such a task. `reason`: of the closed table."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[TaskRefusedError], tuple[str, str]]:
        """Copied, and handed from process to process, as it was made."""
        return type(self), (self.reason, self.detail)
