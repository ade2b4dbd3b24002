"""The server half: w <- w + mean of the answers."""

from __future__ import annotations

import numpy as np

from thinwire.codecs import Arrays, Spec
from thinwire.methods.server_half import RunFacts, ServerHalf
from thinwire.methods.sums import ExactSum, Total
from thinwire.methods.toy import ToySettings
from thinwire.methods.values import State, Task


class Server(ServerHalf[ToySettings]):
    def __init__(self, settings: ToySettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self.reducer = ExactSum(facts.bounds)

    def start(self, model: Arrays, seed: int) -> State:
        return State(1, 0, dict(model))

    def task(self, state: State) -> Task | None:
        if state.round > self.facts.rounds:
            return None
        parts: dict[str, Arrays] = {"model": state.arrays, "fixed": {"constant": np.arange(5, dtype=np.int32)}}
        reply = Spec.of(state.arrays)
        if state.step == 0:
            return Task(state.round, 0, "train", parts, reply, options={"rate": 0.5})
        return Task(state.round, state.step, "again", parts, reply, "same")

    def private(self, state: State, task: Task, client: str) -> Arrays | None:
        return {"yours": np.frombuffer(client.encode(), np.uint8)} if self.settings.private else None

    def advance(self, state: State, total: Total) -> State:
        arrays = {name: (array + total.mean(name)).astype(array.dtype) for name, array in state.arrays.items()}
        return self._following(State(state.round, state.step, arrays))

    def _following(self, state: State) -> State:
        if state.step + 1 < self.settings.steps:
            return State(state.round, state.step + 1, state.arrays)
        return State(state.round + 1, 0, state.arrays)

    def give_up(self, state: State) -> State | None:
        return State(state.round + 1, 0, state.arrays) if self.settings.give_up else None

    def model(self, state: State) -> Arrays:
        return state.arrays
