"""The client half: builds the model of the stage from its blocks, trains what the answer must hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from thinwire.codecs import Array, Arrays
from thinwire.methods.arrays import arrived, difference, headed, is_buffer, own_name, under
from thinwire.methods.client_half import ClientHalf
from thinwire.methods.error_feedback import compensated, with_residual
from thinwire.methods.learner import Learner
from thinwire.methods.progfed import ProgfedSettings
from thinwire.methods.progfed.cuts import TEMPORARY
from thinwire.methods.progfed.growing import stage_model
from thinwire.methods.progfed.stages import check_stages
from thinwire.methods.tensors import model_tensors
from thinwire.methods.training import Sgd, proximal, train_epochs
from thinwire.methods.values import EVALUATE, Answer, Outcome, Task


class Client(ClientHalf[ProgfedSettings]):
    """Memory with error feedback: `residual/NAME`, what the uplink chain has lost; `stage`, int64, when it did."""

    def check(self, task: Task, learner: Learner) -> None:
        """Tries the stage of this task and all later ones."""
        if task.kind != EVALUATE:
            check_stages(learner, self.settings, len(task.parts) - 1)

    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        if task.kind == EVALUATE:
            return self.evaluate(task, memory, learner)
        received, settings = task.arrays, self.settings
        own = model_tensors(learner.model)
        learner.load({name: array for name, array in received.items() if own_name(name) in own})
        # The parts are the blocks and the head.
        stage = len(task.parts) - 1
        model, temporary = stage_model(learner.model, arrived(received), stage, settings.growth)
        tensors = {**own, **temporary}
        metrics = {**learner.evaluate(model), "stage": float(stage)}
        with _only([tensors[own_name(name)] for name in task.reply], list(tensors.values())):
            optimiser = Sgd(float(task.options["lr"]), settings.momentum, settings.weight_decay).build(model)
            train_epochs(
                model,
                learner.train,
                learner.loss,
                optimiser,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                seed=learner.seed,
                penalty=proximal(model, settings.proximal_mu),
            )
        after = {name: tensors[own_name(name)].detach().cpu().numpy() for name in task.reply}
        answer: dict[str, Array] = {
            name: difference(array, received[name]) if is_buffer(name) else array - received[name]
            for name, array in after.items()
        }
        if not settings.error_feedback:
            return Outcome(Answer(answer, len(learner.train), metrics), memory, memory)
        kept_for = np.array(len(task.parts), np.int64)
        known = under("residual", memory)
        if not np.array_equal(memory.get("stage", kept_for), kept_for):
            # Another stage has another temporary head of the same name.
            known = {name: array for name, array in known.items() if name not in TEMPORARY.values()}
        sent, lost = with_residual(compensated(answer, known), learner)
        # What a warm-up does not train keeps its residual.
        rest = {name: array for name, array in known.items() if name not in answer}
        kept = {"stage": kept_for, **headed("residual", {**rest, **lost})}
        return Outcome(Answer(sent, len(learner.train), metrics), kept, memory)


@contextmanager
def _only(trained: list[torch.Tensor], tensors: list[torch.Tensor]) -> Iterator[None]:
    """Freezes all other tensors: no gradient is computed for them."""
    chosen = {id(tensor) for tensor in trained}
    frozen = [tensor for tensor in tensors if tensor.requires_grad and id(tensor) not in chosen]
    for tensor in frozen:
        tensor.requires_grad_(False)
    try:
        yield
    finally:
        for tensor in frozen:
            tensor.requires_grad_(True)
