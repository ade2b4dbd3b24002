"""The client half: trains scores from the received probabilities and answers with one sampled mask."""

from __future__ import annotations

from typing import Final

import numpy as np

from thinwire.codecs import Array, Arrays, Chain, CodecError, Spec
from thinwire.methods.arrays import buffers_of, check_finite, difference, own_name
from thinwire.methods.client_half import ClientHalf, Need
from thinwire.methods.learner import Learner
from thinwire.methods.sparse_masks import SparseMasksSettings, View
from thinwire.methods.sparse_masks.frozen import (
    digest_of,
    draw,
    first_scores,
    frozen_weights,
    maskable,
    theta_of_counts,
)
from thinwire.methods.sparse_masks.training import MaskedModel, train_scores
from thinwire.methods.tensors import as_array, as_tensor, model_tensors
from thinwire.methods.values import EVALUATE, Answer, Outcome, Task

_ALONE: Final = Chain.parse("entropy")
_VIEWS: tuple[View, ...] = ("mode", "mean", "sample", "samples")


class Client(ClientHalf[SparseMasksSettings]):
    def needs(self) -> frozenset[Need]:
        return frozenset({"our loop", "our optimizer"})

    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        if task.kind == EVALUATE:
            return self.evaluate(task, memory, learner)
        scores, frozen, metrics = self._received(task, learner, (self.settings.shown,))
        dense = task.parts.get("dense", {})
        trained = train_scores(learner, frozen, scores, self.settings, dense)
        # A mask drawn from scores that are no numbers would be an empty one, and count.
        check_finite(trained)
        masks = {name: draw(_sigmoid(array), learner.seed, name) for name, array in trained.items()}
        tensors = model_tensors(learner.model)
        statistics = {
            name: difference(as_array(tensors[own_name(name)]), array)
            for name, array in {**dense, **task.parts.get("statistics", {})}.items()
        }
        check_finite({name: array for name, array in statistics.items() if name in dense})
        found = {**masks, **statistics}
        ones = sum(int(np.count_nonzero(mask)) for mask in masks.values())
        count = sum(mask.size for mask in masks.values())
        metrics["density"] = ones / count
        # What papers state: bits per parameter of the mask coded on its own. What was paid is in the ledger.
        metrics["bpp_array"] = 8 * len(_ALONE.encode(masks, Spec.of(masks))) / count
        return Outcome(Answer({name: found[name] for name in task.reply}, len(learner.train), metrics), memory, memory)

    def evaluate(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        """All views; the one of the settings first."""
        views = (self.settings.shown, *(view for view in _VIEWS if view != self.settings.shown))
        _, _, metrics = self._received(task, learner, views)
        return Outcome(Answer({}, len(learner.train), metrics), memory, memory)

    def _received(
        self, task: Task, learner: Learner, views: tuple[View, ...]
    ) -> tuple[dict[str, Array], dict[str, Array], dict[str, float]]:
        """Scores and frozen weights of the arrays with masks, and the metrics of the views."""
        learner.load({name: array for name, array in task.arrays.items() if name not in task.parts.get("counts", {})})
        seed = int(task.options["seed"])
        spec, buffers = learner.spec, buffers_of(learner.arrays())
        masked = maskable(spec, buffers, self.settings.masks, self.settings.dense)
        thetas = self._thetas(task, seed, masked)
        if "base" in task.options:
            frozen = _own_weights(learner, masked, str(task.options["base"]))
        else:
            frozen = frozen_weights(spec, seed, self.settings.weights, buffers, masked)
        metrics: dict[str, float] = {}
        for view in views:
            found = learner.evaluate(_viewed(learner, view, thetas, frozen, seed, task.round))
            if not metrics:
                metrics.update(found)
            if len(views) > 1 and "accuracy" in found:
                metrics[f"accuracy_{view}"] = found["accuracy"]
        limit = self.settings.score_limit
        scores = {name: np.clip(_logit(theta), -limit, limit).astype(np.float32) for name, theta in thetas.items()}
        return scores, frozen, metrics

    def _thetas(self, task: Task, seed: int, masked: Spec) -> dict[str, Array]:
        """float64."""
        counts = task.parts.get("counts")
        if counts is None and "base" in task.options:
            return {name: np.full(item.max_shape, self.settings.kept) for name, item in masked.items()}
        if counts is None:
            return {name: _sigmoid(first_scores(seed, name, item.max_shape)) for name, item in masked.items()}
        masks = int(task.options["masks"]) if self.settings.weighting == "uniform" else 0
        floor = self.settings.revive
        return {name: np.clip(theta_of_counts(counts[name], masks), floor, 1 - floor) for name in masked}


def _own_weights(learner: Learner, masked: Spec, known: str) -> dict[str, Array]:
    """Those that the client's own model begins with. Raises: `does-not-fit` where they are not the run's."""
    learner.begin_again(list(masked))
    tensors = model_tensors(learner.model)
    found = {name: as_array(tensors[name]) for name in masked}
    if digest_of(found).hex() != known:
        raise CodecError(
            "does-not-fit",
            "the trained model under the masks is another one here than the run's: load the same weights in model()",
        )
    return found


def _viewed(learner: Learner, view: View, thetas: Arrays, frozen: Arrays, seed: int, round_: int) -> MaskedModel:
    """The model as this view has it; sampled masks are the same for all clients."""
    if view in ("mode", "mean"):
        shares = [{name: theta if view == "mean" else theta > 0.5 for name, theta in thetas.items()}]
    else:
        shares = [
            {name: draw(theta, seed, f"view-{round_}-{index}/{name}") for name, theta in thetas.items()}
            for index in range(3 if view == "samples" else 1)
        ]
    sets = [
        {name: as_tensor((frozen[name] * share).astype(np.float32), learner.device) for name, share in one.items()}
        for one in shares
    ]
    return MaskedModel(learner.model, learner.outputs, sets)


def _sigmoid(scores: Array) -> Array:
    probabilities: Array = 1 / (1 + np.exp(-scores.astype(np.float64)))
    return probabilities


def _logit(theta: Array) -> Array:
    with np.errstate(divide="ignore"):
        scores: Array = np.log(theta) - np.log1p(-theta)
    return scores
