"""The server half: w <- w + step(sum of p_k (w_k - w))."""

from __future__ import annotations

from dataclasses import replace

from thinwire.codecs import Arrays, Spec
from thinwire.methods.arrays import arrived, check_floating, headed, travelling, under
from thinwire.methods.fedavg import FedavgSettings
from thinwire.methods.robust import reducer_of
from thinwire.methods.server_half import RunFacts, ServerHalf
from thinwire.methods.sharing import carried, shared_part, state_of, whole
from thinwire.methods.sums import Means
from thinwire.methods.values import State, Task


class Server(ServerHalf[FedavgSettings]):
    """State: `model/NAME`, buffers as `model/buffers/NAME`, and the optimiser's `first/NAME`, `second/NAME`; of
    what is not shared, `kept/NAME` and `order` (`sharing`).
    """

    def __init__(self, settings: FedavgSettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self.reducer = reducer_of(facts, settings.weighting)
        self._optimiser = settings.optimiser()

    def start(self, model: Arrays, seed: int) -> State:
        """Raises: `bad-spec`."""
        check_floating(model)
        return State(1, 0, state_of(travelling(model), self.settings))

    def task(self, state: State) -> Task | None:
        if state.round > self.facts.rounds:
            return None
        model = self.arrays(state)
        options = self.settings.lr_options(state.round, self.facts.rounds)
        return Task(state.round, 0, "train", {"model": model}, Spec.of(model), options=options)

    def advance(self, state: State, total: Means) -> State:
        model = self.arrays(state)
        direction = self.direction(model, total)
        after, moments = self._optimiser.step(model, direction, state.arrays, count=state.round)
        return State(state.round + 1, 0, {**headed("model", after), **moments, **carried(state.arrays)})

    def direction(self, model: Arrays, total: Means) -> Arrays:
        """Where the answers point to: their mean, since they are updates."""
        return total.means

    def arrays(self, state: State) -> Arrays:
        """Of the model, by the names under which they travel."""
        return under("model", state.arrays)

    def model(self, state: State) -> Arrays:
        return whole(arrived(self.arrays(state)), state.arrays)

    def evaluation(self, state: State) -> Task | None:
        """Of the shared arrays: what is not shared is with the clients."""
        task = super().evaluation(state)
        if task is None or not self.settings.narrows:
            return task
        parts = {name: shared_part(arrays, self.settings) for name, arrays in task.parts.items()}
        return replace(task, parts=parts)
