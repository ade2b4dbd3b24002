"""The server half: means of scalars, and their history. Nothing here is as large as the model but its start."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs import Array, Arrays, ArraySpec, CodecError, Open, Spec
from thinwire.methods.arrays import arrived, headed, is_buffer, travelling, under
from thinwire.methods.seed_scalars import HISTORY, START, STEPS, TRAIN, SeedScalarsSettings
from thinwire.methods.seed_scalars.directions import drawn
from thinwire.methods.seed_scalars.stored import digest_of_start, pack_history
from thinwire.methods.server_half import RunFacts, ServerHalf
from thinwire.methods.sums import ExactSum, Total
from thinwire.methods.values import EVALUATE, Scalar, State, Task
from thinwire.protocol.encoding import spec_digest

_DIGEST = "digest"


class Server(ServerHalf[SeedScalarsSettings]):
    """State: `start/NAME`, the run's first model as it travels; `history/steps`, float32, (rounds done, S, P) or (K,);
    `digest`, u8, of the start.
    """

    def __init__(self, settings: SeedScalarsSettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self.reducer = ExactSum(facts.bounds, settings.weighting)

    def start(self, model: Arrays, seed: int) -> State:
        """Raises: `bad-spec` (nothing to train, or other floats than float32)."""
        moving = travelling(model)
        trained = {name: array for name, array in moving.items() if not is_buffer(name)}
        if not trained:
            raise CodecError("bad-spec", "the model has no arrays that are trained")
        for name, array in trained.items():
            if array.dtype != np.float32:
                raise CodecError("bad-spec", f"array {name!r} of the model is {array.dtype}; seed_scalars trains f32")
        shape = (0, *self._shape) if self.settings.window is None else (self.settings.window,)
        digest = np.frombuffer(digest_of_start(model), np.uint8)
        return State(1, 0, {**headed(START, moving), STEPS: np.zeros(shape, np.float32), _DIGEST: digest})

    def task(self, state: State) -> Task | None:
        if state.round > self.facts.rounds:
            return None
        reply = Spec({"g": ArraySpec("f32", self._shape)})
        return self._task(state, TRAIN, reply)

    def evaluation(self, state: State) -> Task | None:
        return self._task(state, EVALUATE, Spec())

    def advance(self, state: State, total: Total) -> State:
        before = state.arrays[STEPS]
        scale = self.settings.rate(state.round, self.facts.rounds) / self.settings.perturbations
        far = (total.mean("g") * scale).astype(np.float32)
        if self.settings.window is None:
            after = np.concatenate([before, far[None]])
        else:
            after = self._summed(before, state.round, far)
        return State(state.round + 1, 0, {**state.arrays, STEPS: after})

    def model(self, state: State) -> Arrays:
        """Packed (`stored`): some kilobytes, of which `stored.expand_history` makes the model beside its start."""
        spec = spec_digest(Spec.of(arrived(under(START, state.arrays))))
        return pack_history(state.arrays[STEPS], self.facts.seed, state.arrays[_DIGEST].tobytes(), spec)

    def measured(self, state: State, parts: Mapping[str, Arrays]) -> Arrays:
        return self.model(State(state.round, state.step, {**state.arrays, **parts[HISTORY]}))

    @property
    def _shape(self) -> tuple[int, int]:
        return self.settings.steps, self.settings.perturbations

    def _summed(self, before: Array, round_: int, far: NDArray[np.float32]) -> Array:
        """The sums of the pool after this round, added one after the other, since a direction may come twice."""
        after = before.copy()
        keys = drawn(self.facts.seed, round_, *self._shape, self.settings.window)
        for row, distances in zip(keys, far, strict=True):
            for (_, _, number), distance in zip(row, distances, strict=True):
                after[number] += distance
        return after

    def _task(self, state: State, kind: str, reply: Spec) -> Task:
        parts = {START: under(START, state.arrays), HISTORY: {STEPS: state.arrays[STEPS]}}
        shape = (self.settings.window,) if self.settings.window else (Open(self.facts.rounds), *self._shape)
        options: dict[str, Scalar] = {"seed": self.facts.seed}
        if kind != EVALUATE:
            options |= self.settings.lr_options(state.round, self.facts.rounds)
        specs = {HISTORY: Spec({STEPS: ArraySpec("f32", shape)})}
        return Task(state.round, 0, kind, parts, reply, options=options, specs=specs)
