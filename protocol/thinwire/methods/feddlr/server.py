"""The server half: federated averaging of reconstructed matrices; the codecs of both links do the truncating."""

from __future__ import annotations

from dataclasses import replace

from thinwire.codecs import Arrays
from thinwire.codecs.decomposition import truncated
from thinwire.methods.arrays import arrived, is_buffer
from thinwire.methods.fedavg.server import Server as Fedavg
from thinwire.methods.feddlr import FeddlrSettings, matrices
from thinwire.methods.sharing import whole
from thinwire.methods.sums import Lazy, Means
from thinwire.methods.values import State, Task


class Server(Fedavg):
    """State: that of fedavg; the exact, dense model."""

    settings: FeddlrSettings

    def task(self, state: State) -> Task | None:
        task = super().task(state)
        return None if task is None else replace(task, kind=self.settings.kind(state.round))

    def direction(self, model: Arrays, total: Means) -> Arrays:
        """Of weights: from the model to their mean."""
        if self.settings.object == "update":
            return super().direction(model, total)
        return Lazy(model, lambda name: total.mean(name) if is_buffer(name) else total.mean(name) - model[name])

    def model(self, state: State) -> Arrays:
        """With `compact-energy` the model of a complete run is truncated: what the evaluation measures."""
        arrays, settings = self.arrays(state), self.settings
        if settings.compact_energy is None or state.round <= self.facts.rounds:
            return super().model(state)
        chosen = matrices(arrays, settings)
        cap = settings.max_rank or None
        thin = {
            name: truncated(array, settings.compact_energy, settings.unfolding, cap) if name in chosen else array
            for name, array in arrays.items()
        }
        return whole(arrived(thin), state.arrays)
