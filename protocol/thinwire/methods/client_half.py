"""The client's side of a method. Loading a half imports torch; this module does not."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import Any, Generic

from thinwire.codecs import Arrays

from .learner import Learner
from .registry import find_method
from .settings import SettingsT
from .values import Answer, Outcome, Task


class ClientHalf(ABC, Generic[SettingsT]):
    """torch; deterministic: the same task, memory, learner data and seed give the same outcome."""

    def __init__(self, settings: SettingsT) -> None:
        self.settings = settings

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


def client_half(method_id: str) -> type[ClientHalf[Any]]:
    """The class of this method's client half; imports torch. Raises: `KeyError`."""
    find_method(method_id)
    half: type[ClientHalf[Any]] = importlib.import_module(f"{__package__}.{method_id}.client").Client
    return half
