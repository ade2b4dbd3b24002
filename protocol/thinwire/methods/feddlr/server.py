"""The server half: federated averaging of reconstructed matrices; the codecs of both links do the truncating."""

from __future__ import annotations

from dataclasses import replace

from thinwire.codecs import Arrays, Spec
from thinwire.codecs.decomposition import low_rank_names, truncated
from thinwire.methods.arrays import under
from thinwire.methods.fedavg.server import Server as Fedavg
from thinwire.methods.feddlr import FeddlrSettings
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
        return Lazy(model, lambda name: total.mean(name) - model[name])

    def model(self, state: State) -> Arrays:
        """With `compact-energy` the model of a complete run is truncated: what the evaluation measures."""
        model, settings = under("model", state.arrays), self.settings
        if settings.compact_energy is None or state.round <= self.facts.rounds:
            return model
        chosen = low_rank_names(Spec.of(model), settings.dense, ends=settings.dense_ends)
        cap = settings.max_rank or None
        return {
            name: truncated(array, settings.compact_energy, settings.unfolding, cap) if name in chosen else array
            for name, array in model.items()
        }
