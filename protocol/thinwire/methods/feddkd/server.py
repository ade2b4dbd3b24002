"""The server half: the average of the trained models, then steps along the mean distillation gradient."""

from __future__ import annotations

from thinwire.codecs import Arrays, Spec
from thinwire.methods.arrays import headed, is_buffer, under
from thinwire.methods.fedavg.server import Server as Fedavg
from thinwire.methods.feddkd import FeddkdSettings
from thinwire.methods.server_half import RunFacts
from thinwire.methods.sums import Lazy, Means
from thinwire.methods.values import State, Task


class Server(Fedavg):
    """State: that of fedavg, `model/NAME` being the student during a round; `distil/first/NAME` and
    `distil/second/NAME`, the moments of the distillation, from its first step to the end of the round.
    """

    settings: FeddkdSettings

    def __init__(self, settings: FeddkdSettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self._distiller = settings.distiller()

    def task(self, state: State) -> Task | None:
        if state.step == 0:
            return super().task(state)
        student = self.arrays(state)
        # Nothing is learnt about buffers here: they stay what the averaging made them.
        learnt = Spec.of({name: array for name, array in student.items() if not is_buffer(name)})
        return Task(state.round, state.step, "distil", {"model": student}, learnt, "same")

    def advance(self, state: State, total: Means) -> State:
        if state.step == 0:
            averaged = super().advance(state, total)
            if not self.settings.distils(state.round, self.facts.rounds):
                return averaged
            return State(state.round, 1, averaged.arrays)
        student = self.arrays(state)
        downhill = Lazy(total.names, lambda name: -total.mean(name))
        learnt = {name: student[name] for name in downhill}
        moved, moments = self._distiller.step(learnt, downhill, under("distil", state.arrays), count=state.step)
        arrays = {**self._between_rounds(state), **headed("model", moved)}
        if state.step < self.settings.distil_exchanges:
            return State(state.round, state.step + 1, {**arrays, **headed("distil", moments)})
        return State(state.round + 1, 0, arrays)

    def give_up(self, state: State) -> State | None:
        """A step whose quorum is missed ends the round with the student so far; training is offered again."""
        return State(state.round + 1, 0, self._between_rounds(state)) if state.step else None

    @staticmethod
    def _between_rounds(state: State) -> Arrays:
        return {name: array for name, array in state.arrays.items() if not name.startswith("distil/")}
