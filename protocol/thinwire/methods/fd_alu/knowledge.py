"""What the server half does with one kind of knowledge: state, broadcast, reply, sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from thinwire.codecs import Arrays, Spec
from thinwire.methods.fd_alu import FdAluSettings
from thinwire.methods.reducers import Reducer
from thinwire.methods.server_half import RunFacts
from thinwire.methods.values import Task


class Knowledge(ABC):
    """Pure, numpy only. `arrays` are those of the run's state."""

    reducer: Reducer[Any]

    def __init__(self, settings: FdAluSettings, facts: RunFacts) -> None:
        self.settings = settings
        self.facts = facts

    @abstractmethod
    def first(self, classes: int) -> Arrays:
        """The arrays before the first exchange, when nothing is known. Raises: `CodecError`."""

    @abstractmethod
    def parts(self, arrays: Arrays) -> Mapping[str, Arrays]:
        """What everybody is sent."""

    @abstractmethod
    def reply(self, arrays: Arrays) -> Spec:
        """What an answer holds."""

    @abstractmethod
    def after(self, arrays: Arrays, total: Any) -> Arrays:
        """The arrays when the answers of an exchange have been summed."""

    def specimen(self, task: Task, rng: np.random.Generator, *, dense: bool) -> Arrays | None:
        """As `ServerHalf.specimen`."""
        return None

    def private(self, arrays: Arrays, client: str) -> Arrays | None:
        """What one client alone is sent."""
        return None
