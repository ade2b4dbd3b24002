"""The client's side of a method. Loading a half imports torch; this module does not."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import Any, Generic, Literal

from thinwire.codecs import Arrays

from .learner import Learner
from .registry import find_method
from .settings import SettingsT
from .values import Answer, Outcome, Task, TaskRefusedError

Need = Literal["our loop", "our optimizer", "rows"]
"""What a method may need of a task beside its model, data and loss: that we train, and no `fit` of its own; with our
optimisers, and no `optimizer` of its own; examples that are found by their numbers.
"""


class ClientHalf(ABC, Generic[SettingsT]):
    """torch; deterministic: the same task, memory, learner data and seed give the same outcome."""

    def __init__(self, settings: SettingsT) -> None:
        self.settings = settings

    def needs(self) -> frozenset[Need]:
        """What these settings need of a task; checked before anything of a task is fetched."""
        return frozenset()

    @abstractmethod
    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        """The answer to one task, and both memories. `memory`: what the last verdict promoted, {} at first.

        A task of kind `evaluate` is answered with metrics only: see `evaluate`. Raises: `TaskRefusedError` where this
        client lacks what the task needs: a consent, say; `TaskPassedError` where it lacks it for this task alone.
        """

    def check(self, task: Task, learner: Learner) -> None:
        """Tries what this exchange and later ones will need of the learner, before the first task of a plan. Leaves the
        learner's model as it was.

        Raises: `TaskRefusedError`, with the setting that helps; `CodecError`.
        """

    def evaluate(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        """The outcome of an `evaluate` task for a method whose global model is the user's model."""
        learner.load(task.arrays)
        return Outcome(Answer({}, len(learner.train), learner.evaluate()), memory, memory)


def check_needs(half: ClientHalf[Any], learner: Learner, method: str) -> None:
    """Raises: `TaskRefusedError` where the learner's task lacks what the method needs, and says what."""
    needs = half.needs()
    if "our loop" in needs and learner.fit is not None:
        lacks = "trains by a loop of its own, and this task brings fit(); fedavg, feddlr and progfed run with it"
    elif "our optimizer" in needs and learner.optimizer is not None:
        lacks = "needs an optimiser of the run, with these settings, and this task brings optimizer(); leave it out"
    elif "rows" in needs and not learner.train.numbered:
        lacks = "looks examples up by their numbers, and a Stream has none: give data().train as tensors or a Dataset"
    else:
        return
    raise TaskRefusedError("run-invalid", f"{method} {lacks}")


def client_half(method_id: str) -> type[ClientHalf[Any]]:
    """The class of this method's client half; imports torch. Raises: `KeyError`."""
    find_method(method_id)
    half: type[ClientHalf[Any]] = importlib.import_module(f"{__package__}.{method_id}.client").Client
    return half
