"""The server half: counts masks."""

from __future__ import annotations

import numpy as np

from thinwire.codecs import Array, Arrays, ArraySpec, CodecError, Spec
from thinwire.methods.arrays import arrived, check_floating, is_buffer, moved, own_name, travelling, under
from thinwire.methods.server_half import RunFacts, ServerHalf
from thinwire.methods.sparse_masks import PRETRAINED, TRAIN, SparseMasksSettings
from thinwire.methods.sparse_masks.frozen import (
    digest_of,
    first_scores,
    is_dense,
    level_of_theta,
    maskable,
    theta_of_counts,
)
from thinwire.methods.sparse_masks.masked_model import pack_model
from thinwire.methods.sums import ExactSum, Total
from thinwire.methods.values import EVALUATE, State, Task

_MASKS, _BASE = "masks", "base"
_FIXED, _STATISTICS, _COUNTS, _DENSE = "fixed", "statistics", "counts", "dense"


class Server(ServerHalf[SparseMasksSettings]):
    """State, in the model's order: `counts/NAME`, u8 or u16, how many of the last `masks` masks have a one, or,
    weighted by examples, levels of theta (`level_of_theta`); `statistics/buffers/NAME`, buffers; `dense/NAME`, what is
    trained as it is; `fixed/NAME`, what else has no mask. `masks`, u32: how many were counted, 0 before the first.
    `base`, u8: by what the weights of a pretrained backbone are known.
    """

    def __init__(self, settings: SparseMasksSettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self.reducer = ExactSum(facts.bounds, settings.weighting)

    def start(self, model: Arrays, seed: int) -> State:
        """Raises: `bad-spec` (no weights to mask, other floats than float32, more masks than 16 bits count)."""
        check_floating(model)
        model = travelling(model)
        spec = Spec.of(model)
        settings = self.settings
        masked = maskable(spec, (), settings.masks, settings.dense)
        if not masked:
            what = f"masks = {settings.masks!r} names" if settings.masks else "the model has"
            raise CodecError("bad-spec", f"{what} no weights of two or more dimensions: nothing to mask")
        for name, item in spec.items():
            if item.dtype != "f32":
                raise CodecError("bad-spec", f"array {name!r} of the model is {item.dtype}; masked models are f32")
        most = self.facts.bounds.clients * self.settings.reset_every
        if most > 0xFFFF and self.settings.weighting == "uniform":
            raise CodecError("bad-spec", f"counts of up to {most} masks do not fit 16 bits; use a smaller reset-every")
        wide = most > 0xFF and self.settings.weighting == "uniform"
        arrays: dict[str, Array] = {}
        for name, array in model.items():
            if name in masked:
                arrays[f"{_COUNTS}/{name}"] = np.zeros(array.shape, np.uint16 if wide else np.uint8)
            elif is_dense(name, settings.dense):
                arrays[f"{_DENSE}/{name}"] = array
            else:
                arrays[f"{_STATISTICS if is_buffer(name) else _FIXED}/{name}"] = array
        if settings.backbone == PRETRAINED:
            known = digest_of({name: model[name] for name in masked})
            arrays[_BASE] = np.frombuffer(known, np.uint8)
        return State(1, 0, {**arrays, _MASKS: np.array(0, np.uint32)})

    def warnings(self) -> list[str]:
        """Drift: while beta counts, the j-th round since its reset takes only 1 / (j**2 K) of what is undecided."""
        found = []
        if self.settings.backbone == PRETRAINED and self.settings.lambda_:
            found.append(
                f"lambda ({self.settings.lambda_:g}) draws weights out of the backbone whether or not they are needed: "
                "lambda=0 leaves it to the data"
            )
        window, clients = self.settings.reset_every, self.facts.bounds.clients
        slower = window / sum(1 / j**2 for j in range(1, window + 1))
        if self.settings.revive or self.facts.rounds <= 3 * clients * slower:
            return found
        return [
            *found,
            f"{self.facts.rounds} rounds are more than 3 x cohort ({clients}): by then sampling alone, not the data, "
            "has decided most of the mask; a larger cohort, revive=0.01, score-limit=6, aggregation=beta keep it open",
        ]

    def task(self, state: State) -> Task | None:
        if state.round > self.facts.rounds:
            return None
        reply = []
        for name, item in _model_spec(state).items():
            heading, _, plain = name.partition("/")
            if heading != _FIXED:
                reply.append((plain, ArraySpec("bool" if heading == _COUNTS else "f32", item.shape)))
        return Task(state.round, 0, TRAIN, self._parts(state), Spec(reply), options=self._options(state))

    def advance(self, state: State, total: Total) -> State:
        forgets = (state.round - 1) % self.settings.reset_every == 0
        masks = total.count + (0 if forgets else int(state.arrays[_MASKS]))
        after: dict[str, Array] = {_MASKS: np.array(masks, np.uint32)}
        for name, array in state.arrays.items():
            heading, _, plain = name.partition("/")
            if heading == _STATISTICS:
                after[name] = moved(array, total.mean(plain), plain)
            elif heading == _DENSE:
                after[name] = (array + total.mean(plain)).astype(array.dtype)
            elif heading == _COUNTS and self.settings.weighting == "examples":
                after[name] = level_of_theta(total.mean(plain))
            elif heading == _COUNTS:
                after[name] = (total.sums[plain] + (0 if forgets else array)).astype(array.dtype)
        return State(state.round + 1, 0, {name: after.get(name, array) for name, array in state.arrays.items()})

    def model(self, state: State) -> Arrays:
        """Packed (`masked_model`): the mask theta > 1/2, or the counts; `masked_model.expand` makes the model's arrays
        of it. Before the first answers there is only the mask.
        """
        counts = under(_COUNTS, state.arrays)
        masks = self._masks(state)
        if self.settings.final == "mean" and state.arrays[_MASKS]:
            shares: Arrays = counts
        else:
            shares = {name: theta > 0.5 for name, theta in self._thetas(state, counts).items()}
        whole = (_FIXED, _DENSE, _STATISTICS)
        dense = arrived({name: array for heading in whole for name, array in under(heading, state.arrays).items()})
        names = ((own_name(name.partition("/")[2]), item) for name, item in _model_spec(state).items())
        spec = Spec((name, ArraySpec("f32", item.shape)) for name, item in names)
        base = state.arrays[_BASE].tobytes() if _BASE in state.arrays else None
        return pack_model(spec, shares, dense, self.facts.seed, self.settings.weights, masks, base=base)

    def measures(self, state: State) -> bool:
        """Where another view is shown than the final one, what is measured is no model that could be stored; nor is it
        of mean weights before the first answers, or while a floor keeps them from nought.
        """
        settings = self.settings
        if settings.shown != settings.final:
            return False
        return settings.final == "mode" or (bool(state.arrays[_MASKS]) and not settings.revive)

    def evaluation(self, state: State) -> Task | None:
        """All views of the final probabilities."""
        return Task(state.round, 0, EVALUATE, self._parts(state), Spec(), options=self._options(state))

    def _thetas(self, state: State, counts: Arrays) -> dict[str, Array]:
        if not state.arrays[_MASKS]:
            if _BASE in state.arrays:
                return {name: np.full(array.shape, self.settings.kept) for name, array in counts.items()}
            first = {name: first_scores(self.facts.seed, name, array.shape) for name, array in counts.items()}
            return {name: (scores > 0).astype(np.float64) for name, scores in first.items()}
        return {name: theta_of_counts(array, self._masks(state)) for name, array in counts.items()}

    def _masks(self, state: State) -> int:
        """What `theta_of_counts` needs to know."""
        return int(state.arrays[_MASKS]) if self.settings.weighting == "uniform" else 0

    def _parts(self, state: State) -> dict[str, Arrays]:
        """Before the first answers everybody draws the first scores from the seed: there is nothing to send."""
        headings = (_FIXED, _DENSE, _STATISTICS, *([_COUNTS] if state.arrays[_MASKS] else []))
        found = {heading: under(heading, state.arrays) for heading in headings}
        return {heading: arrays for heading, arrays in found.items() if arrays}

    def _options(self, state: State) -> dict[str, bool | int | float | str]:
        base = {_BASE: state.arrays[_BASE].tobytes().hex()} if _BASE in state.arrays else {}
        return {"seed": self.facts.seed, "masks": int(state.arrays[_MASKS]), **base}


def _model_spec(state: State) -> Spec:
    """Of the state's arrays that stand for arrays of the model, in their order."""
    return Spec.of({name: array for name, array in state.arrays.items() if name not in (_MASKS, _BASE)})
