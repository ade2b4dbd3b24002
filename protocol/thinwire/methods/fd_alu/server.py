"""The server half: blocks of local rounds, and between them what one kind of knowledge makes of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from thinwire.codecs import Arrays, CodecError
from thinwire.methods.arrays import buffers_of, check_floating
from thinwire.methods.fd_alu import TRAIN, FdAluSettings
from thinwire.methods.fd_alu.class_means import ClassMeans
from thinwire.methods.fd_alu.knowledge import Knowledge
from thinwire.methods.fd_alu.proxy_labels import ProxyLabels
from thinwire.methods.fd_alu.sample_cache import SampleCache
from thinwire.methods.server_half import RunFacts, ServerHalf
from thinwire.methods.values import State, Task

_KINDS: Final[Mapping[str, type[Knowledge]]] = {"class": ClassMeans, "proxy": ProxyLabels, "sample": SampleCache}


class Server(ServerHalf[FdAluSettings]):
    """State: `round`, the last local round of the block that comes next; the arrays of the kind of knowledge."""

    def __init__(self, settings: FdAluSettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self._knowledge = _KINDS[settings.knowledge](settings, facts)
        self.reducer = self._knowledge.reducer

    def start(self, model: Arrays, seed: int) -> State:
        """Of the model only the number of classes is needed. Raises: `bad-spec`."""
        check_floating(model)
        classes = self.settings.classes or _classes(model)
        return State(self._end_of_block(0), 0, self._knowledge.first(classes))

    def task(self, state: State) -> Task | None:
        if state.round > self.facts.rounds:
            return None
        parts, reply = self._knowledge.parts(state.arrays), self._knowledge.reply(state.arrays)
        return Task(state.round, 0, TRAIN, parts, reply, options={"seed": self.facts.seed})

    def specimen(self, task: Task, rng: np.random.Generator, *, dense: bool) -> Arrays | None:
        return self._knowledge.specimen(task, rng, dense=dense)

    def private(self, state: State, task: Task, client: str) -> Arrays | None:
        return self._knowledge.private(state.arrays, client) if task.kind == TRAIN else None

    def advance(self, state: State, total: Any) -> State:
        return State(self._end_of_block(state.round), 0, self._knowledge.after(state.arrays, total))

    def model(self, state: State) -> Arrays | None:
        return None

    def measures(self, state: State) -> bool:
        return False

    def _end_of_block(self, done: int) -> int:
        """The last local round of the block after `done` local rounds; beyond the run's where all are done."""
        if done >= self.facts.rounds:
            return self.facts.rounds + 1
        return min(done + self.settings.local_rounds_per_exchange, self.facts.rounds)


def _classes(model: Arrays) -> int:
    """The size of the last array that is trained: the classifier's bias or weights. Raises: `bad-spec`."""
    buffers = buffers_of(model)
    trained = [array for name, array in model.items() if name not in buffers]
    last = trained[-1] if trained else np.zeros(0)
    if last.ndim == 0 or len(last) < 2:
        raise CodecError("bad-spec", "the model's last array does not tell the number of classes: set classes")
    return len(last)
