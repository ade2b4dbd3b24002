"""The client half: forward passes along shared directions, and the model's way replayed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from thinwire.codecs import Array, Arrays
from thinwire.methods.arrays import own_name
from thinwire.methods.client_half import ClientHalf, Need
from thinwire.methods.inputs import Inputs
from thinwire.methods.learner import Learner
from thinwire.methods.seed_scalars import HISTORY, START, STEPS, SeedScalarsSettings
from thinwire.methods.seed_scalars.directions import Key, direction_bytes, drawn, flat, moves, trained_names, unflat
from thinwire.methods.tensors import model_tensors
from thinwire.methods.values import EVALUATE, Answer, Outcome, Task

_SHIFTS = tuple(range(8))


class Client(ClientHalf[SeedScalarsSettings]):
    """Memory, without a window: `weights`, float32 (d,), the model received last; `rounds`, u32, how many rounds have
    made it; `known`, u8 (32,), the SHA-256 of their history, so that a model of another history is not gone on with.
    """

    def needs(self) -> frozenset[Need]:
        return frozenset({"our loop", "our optimizer"})

    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        weights, kept = self._received(task, memory, learner)
        learner.load(unflat(weights.cpu().numpy(), task.parts[START]))
        learner.model.eval()
        metrics = learner.evaluate()
        if task.kind == EVALUATE:
            return Outcome(Answer({}, len(learner.train), metrics), memory, memory)
        scalars = self._measured(task, learner, _Place(learner, trained_names(task.parts[START])), weights)
        return Outcome(Answer({"g": scalars}, len(learner.train), metrics), kept, memory)

    evaluate = perform

    def _received(self, task: Task, memory: Arrays, learner: Learner) -> tuple[torch.Tensor, Arrays]:
        """The model of this task, (d,), and what to remember of it."""
        start, history = task.parts[START], task.parts[HISTORY][STEPS]
        begun, begin = None, 0
        if self.settings.window is None and "weights" in memory:
            begin = int(memory["rounds"])
            if begin <= len(history) and _known(history[:begin]).tobytes() == memory["known"].tobytes():
                begun = np.array(memory["weights"])
        if begun is None:
            begun, begin = flat(start), 0
        weights = torch.from_numpy(begun).to(learner.device)
        seed = int(task.options["seed"])
        for key, far in moves(history, begin):
            weights.sub_(signs(seed, key, weights) * float(far))
        if self.settings.window is not None:
            return weights, {}
        rounds, known = np.array(len(history), np.uint32), _known(history)
        return weights, {"weights": weights.cpu().numpy().copy(), "rounds": rounds, "known": known}

    def _measured(self, task: Task, learner: Learner, place: _Place, weights: torch.Tensor) -> NDArray[np.float32]:
        """The scalars, (S, P); `weights` are this client's own after its last step."""
        settings, seed = self.settings, int(task.options["seed"])
        keys = drawn(seed, task.round, settings.steps, settings.perturbations, settings.window)
        lr = float(task.options.get("lr", settings.lr))
        found = np.zeros((settings.steps, settings.perturbations), np.float32)
        batches = _batches(learner, settings.batch_size)
        for step, row in enumerate(keys):
            inputs, targets = next(batches)
            for index, key in enumerate(row):
                way = signs(seed, key, weights) * settings.epsilon
                losses = [
                    self._loss(learner, place, moved, inputs, targets) for moved in (weights + way, weights - way)
                ]
                slope = (losses[0] - losses[1]) / (2 * settings.epsilon)
                # What is no number stays none, and is refused: min and max would make a slope of it.
                slope = slope if math.isnan(slope) else min(settings.clip, max(-settings.clip, slope))
                found[step, index] = slope
            if step + 1 < len(keys):
                for index, key in enumerate(row):
                    far = np.float32(lr / settings.perturbations * float(found[step, index]))
                    weights.sub_(signs(seed, key, weights) * float(far))
        return found

    def _loss(
        self, learner: Learner, place: _Place, weights: torch.Tensor, inputs: Inputs, targets: torch.Tensor
    ) -> float:
        place.put(weights)
        half = self.settings.precision == "bf16"
        with torch.inference_mode(), torch.autocast(learner.device.type, torch.bfloat16, enabled=half):
            return float(learner.loss(learner.outputs(learner.model, inputs), targets).double())


def signs(seed: int, key: Key, like: torch.Tensor) -> torch.Tensor:
    """The direction of this key as +1 and -1, of the size, dtype and device of `like`, (d,): `directions.signs`, made
    where the model is.
    """
    packed = torch.from_numpy(direction_bytes(seed, key, like.numel())).to(like.device)
    bits = (packed[:, None] >> torch.tensor(_SHIFTS, dtype=torch.uint8, device=like.device)) & 1
    return 1 - 2 * bits.reshape(-1)[: like.numel()].to(like.dtype)


class _Place:
    """The tensors of the model that are trained, and how numbers in a row are put into them."""

    def __init__(self, learner: Learner, names: list[str]) -> None:
        tensors = model_tensors(learner.model)
        self._tensors = [tensors[own_name(name)] for name in names]

    @torch.no_grad()
    def put(self, weights: torch.Tensor) -> None:
        """Sets them. (d,)"""
        start = 0
        for tensor in self._tensors:
            tensor.copy_(weights[start : start + tensor.numel()].view(tensor.shape))
            start += tensor.numel()


def _batches(learner: Learner, size: int) -> Iterator[tuple[Inputs, torch.Tensor]]:
    """Of the client's examples, one pass after the other, each in an order of its own."""
    seed = learner.seed
    while True:
        for batch in learner.train.batches(size, seed):
            yield batch.pair
        seed += 1


def _known(history: Array) -> NDArray[np.uint8]:
    return np.frombuffer(hashlib.sha256(np.asarray(history, "<f4", order="C").tobytes()).digest(), np.uint8)
