"""The server half: federated averaging of what has grown so far, block by block."""

from __future__ import annotations

from collections.abc import Mapping

from thinwire.codecs import Array, Arrays, CodecError, Spec
from thinwire.methods.arrays import arrived, check_floating, headed, travelling, under
from thinwire.methods.progfed import TRAIN, WARM_UP, ProgfedSettings
from thinwire.methods.progfed.cuts import TEMPORARY, cut, temporary_head
from thinwire.methods.robust import reducer_of
from thinwire.methods.server_half import RunFacts, ServerHalf
from thinwire.methods.sums import Means
from thinwire.methods.values import State, Task

_HEAD = "head"


class Server(ServerHalf[ProgfedSettings]):
    """State: `model/NAME`, all of the model, what has not grown yet as it came; `temporary/NAME`, the head of the
    present stage while it is a temporary one; the optimiser's `first/NAME`, `second/NAME` since the last growth.
    """

    def __init__(self, settings: ProgfedSettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self.reducer = reducer_of(facts, settings.weighting)
        self._optimiser = settings.optimiser()

    def start(self, model: Arrays, seed: int) -> State:
        """Raises: `bad-spec` (also: stages or a schedule that do not fit model and rounds)."""
        check_floating(model)
        stages = len(cut(model, self.settings)) - 1
        try:
            self.settings.lengths(stages, self.facts.rounds)
        except ValueError as error:
            raise CodecError("bad-spec", str(error)) from None
        widths = self.settings.head_widths
        if widths is not None and len(widths) < stages - 1:
            raise CodecError("bad-spec", f"{len(widths)} head-widths for {stages - 1} temporary heads")
        arrays = travelling(model)
        return State(1, 0, {**headed("model", arrays), **self._temporary(arrays, self.stage(arrays, 1))})

    def stage(self, model: Arrays, round_: int) -> int:
        """The stage of a round, from 1; in all later rounds that of the last one."""
        stages = len(cut(model, self.settings)) - 1
        ends = 0
        for index, length in enumerate(self.settings.lengths(stages, self.facts.rounds)):
            ends += length
            if round_ <= ends:
                return index + 1
        return stages

    def task(self, state: State) -> Task | None:
        if state.round > self.facts.rounds:
            return None
        model = under("model", state.arrays)
        blocks = cut(model, self.settings)
        stage = self.stage(model, state.round)
        head = under("temporary", state.arrays) or {name: model[name] for name in blocks[-1]}
        parts: dict[str, Arrays] = {
            f"block-{index}": {name: model[name] for name in names}
            for index, names in enumerate(blocks[:stage], start=1)
        }
        parts[_HEAD] = head
        warms_up = state.step < self._warm_ups(model, state.round)
        trained = self._new(parts, model, state.round) if warms_up else parts
        reply = Spec.of({name: array for part in trained.values() for name, array in part.items()})
        options = {"lr": self.settings.rate(state.round, self.facts.rounds)}
        return Task(state.round, state.step, WARM_UP if warms_up else TRAIN, parts, reply, options=options)

    def advance(self, state: State, total: Means) -> State:
        model, temporary = under("model", state.arrays), under("temporary", state.arrays)
        arrays = {**model, **temporary}
        moved = {name: arrays[name] for name in total.names}
        after, moments = self._optimiser.step(moved, total.means, state.arrays, count=state.round)
        model = {name: after.get(name, array) for name, array in model.items()}
        if state.step < self._warm_ups(model, state.round):
            round_, step = state.round, state.step + 1
        else:
            round_, step = state.round + 1, 0
        stage = self.stage(model, round_)
        if stage == self.stage(model, state.round):
            kept = headed("temporary", {name: after.get(name, array) for name, array in temporary.items()})
            return State(round_, step, {**headed("model", model), **kept, **moments})
        return State(round_, step, {**headed("model", model), **self._temporary(model, stage)})

    def model(self, state: State) -> Arrays:
        """All of it: before the last stage the blocks that have not grown yet are the first model's."""
        return arrived(under("model", state.arrays))

    def measures(self, state: State) -> bool:
        """A model that has not grown to its end yet is measured by what there is of it."""
        model = under("model", state.arrays)
        return self.stage(model, state.round) == len(cut(model, self.settings)) - 1

    def measured(self, state: State, parts: Mapping[str, Arrays]) -> Arrays:
        received = {name: array for part in parts.values() for name, array in part.items()}
        return arrived({**under("model", state.arrays), **received})

    def _warm_ups(self, model: Arrays, round_: int) -> int:
        grew = round_ > 1 and self.stage(model, round_) > self.stage(model, round_ - 1)
        return self.settings.warm_up if grew else 0

    def _new(self, parts: dict[str, Arrays], model: Arrays, round_: int) -> dict[str, Arrays]:
        """The parts that this round's growth has added."""
        before = self.stage(model, round_ - 1)
        return {name: part for index, (name, part) in enumerate(parts.items(), start=1) if index > before}

    def _temporary(self, model: Arrays, stage: int) -> dict[str, Array]:
        blocks = cut(model, self.settings)
        if stage == len(blocks) - 1 or self.settings.growth == "symmetric":
            return {}
        assert not set(TEMPORARY.values()) & set(model)  # noqa: S101
        return headed("temporary", temporary_head(model, blocks, stage, self.settings, self.facts.seed))
