"""The server half: w <- w + mean of the answers; `votes` counts whoever heard its own name."""

from __future__ import annotations

import numpy as np

from thinwire.codecs import Arrays, ArraySpec, Spec
from thinwire.methods.arrays import headed, under
from thinwire.methods.server_half import RunFacts, ServerHalf
from thinwire.methods.sums import ExactSum, Total
from thinwire.methods.toy_relay import ToyRelaySettings
from thinwire.methods.values import State, Task


class Server(ServerHalf[ToyRelaySettings]):
    def __init__(self, settings: ToyRelaySettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self.reducer = ExactSum(facts.bounds)

    def start(self, model: Arrays, seed: int) -> State:
        return State(1, 0, {**headed("model", model), "votes": np.zeros(4, np.int64)})

    def task(self, state: State) -> Task | None:
        if state.round > self.facts.rounds:
            return None
        parts: dict[str, Arrays] = {"model": self.model(state), "fixed": {"constant": np.arange(5, dtype=np.int32)}}
        reply = Spec([*Spec.of(parts["model"]).items(), ("heard", ArraySpec("u8", (4,)))])
        if state.step == 0:
            return Task(state.round, 0, "draw", parts, reply, options={"lr": self.settings.lr})
        return Task(state.round, state.step, "echo", parts, reply, "same")

    def private(self, state: State, task: Task, client: str) -> Arrays | None:
        return {"name": np.frombuffer(client.encode()[-4:], np.uint8)} if task.kind == "draw" else None

    def advance(self, state: State, total: Total) -> State:
        model = {name: (w + total.mean(name)).astype(w.dtype) for name, w in self.model(state).items()}
        arrays = {**headed("model", model), "votes": state.arrays["votes"] + total.sums["heard"]}
        if state.step + 1 < self.settings.steps:
            return State(state.round, state.step + 1, arrays)
        return State(state.round + 1, 0, arrays)

    def give_up(self, state: State) -> State | None:
        """A draw is offered again; a round whose echo failed is over."""
        return State(state.round + 1, 0, state.arrays) if state.step else None

    def model(self, state: State) -> Arrays:
        return under("model", state.arrays)
