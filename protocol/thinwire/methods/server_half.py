"""The server's side of a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic

import numpy as np

from thinwire.codecs import Array, Arrays, ArraySpec, Spec

from .arrays import travelling
from .reducers import Bounds, Reducer, Robust
from .settings import SettingsT
from .values import EVALUATE, State, Task


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What every server half may know of its run, constant from the first exchange to the last. `asynchronous`: answers
    may be to tasks of earlier exchanges.
    """

    rounds: int
    seed: int
    bounds: Bounds
    robust: Robust = field(default_factory=Robust)
    asynchronous: bool = False


class ServerHalf(ABC, Generic[SettingsT]):
    """numpy only; pure: no clock, no input or output, no state outside `State`."""

    reducer: Reducer[Any]

    def __init__(self, settings: SettingsT, facts: RunFacts) -> None:
        self.settings = settings
        self.facts = facts

    @abstractmethod
    def start(self, model: Arrays, seed: int) -> State:
        """The state before the first exchange. `model`: the user's initial arrays.

        Raises: `CodecError` (`bad-spec`) where this method cannot work with such a model.
        """

    @abstractmethod
    def task(self, state: State) -> Task | None:
        """The next exchange; None when the run is complete."""

    def private(self, state: State, task: Task, client: str) -> Arrays | None:
        """A part of the task for this client alone, added on its side as part "private"; None where there is none."""
        return None

    @abstractmethod
    def advance(self, state: State, total: Any) -> State:
        """The state after `task(state)`, whose contributions sum to `total` (never of zero contributions)."""

    def give_up(self, state: State) -> State | None:
        """The state after an exchange whose quorum was missed; None: offer the exchange again."""
        return None

    @abstractmethod
    def model(self, state: State) -> Arrays | None:
        """The global model as named arrays; None for a method that has none."""

    def measures(self, state: State) -> bool:
        """Whether what the clients measure in the exchange from this state is of a whole global model."""
        return True

    def measured(self, state: State, parts: Mapping[str, Arrays]) -> Arrays | None:
        """The global model that they measure there, as `model`. `parts`: of the task as they are decoded; the arrays of
        a part are taken for those of the state under its name.
        """
        received = {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
        known = {name: array for name, array in received.items() if name in state.arrays}
        return self.model(State(state.round, state.step, {**state.arrays, **known}))

    def specimen(self, task: Task, rng: np.random.Generator, *, dense: bool) -> Arrays | None:
        """An answer as it may look, for counting bytes before a run; None: it depends on what each client has. `dense`:
        nothing in it is more likely than anything else; otherwise it is as easy to write as a real one gets.
        """
        return {name: _dense(item, rng) if dense else _sparse(item, rng) for name, item in task.reply.items()}

    def warnings(self) -> list[str]:
        """What this method has to say of a run with these settings and facts, one sentence each."""
        return []

    def evaluation(self, state: State) -> Task | None:
        """The exchange that measures the final state; None for nothing to measure."""
        model = self.model(state)
        parts = {} if model is None else {"model": travelling(model)}
        return Task(state.round, state.step, EVALUATE, parts, Spec())


_LENGTH: Final = 0.01
"""Of a usual element of an update."""
_ONES: Final = 0.001
"""Of a sparse mask."""


def _dense(item: ArraySpec, rng: np.random.Generator) -> Array:
    if item.dtype == "bool":
        return np.asarray(rng.random(item.max_shape) < 0.5)
    scale = _LENGTH if item.is_floating else 1
    return np.asarray(scale * rng.standard_normal(item.max_shape)).astype(item.numpy_dtype)


def _sparse(item: ArraySpec, rng: np.random.Generator) -> Array:
    """Of rank one, heavy tails, half of its rows zero."""
    shape = item.max_shape
    if item.dtype == "bool":
        return np.asarray(rng.random(shape) < _ONES)
    if not item.is_floating:
        return np.zeros(shape, item.numpy_dtype)
    rows = rng.standard_normal(shape[:1]) ** 3 * (rng.random(shape[:1]) < 0.5)
    rest = rng.standard_normal(shape[1:]) ** 3
    return np.asarray(_LENGTH * np.multiply.outer(rows, rest)).astype(item.numpy_dtype).reshape(shape)
