"""The client half: builds the model of the stage from its blocks, trains what the answer must hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from thinwire.codecs import Array, Arrays
from thinwire.methods.interface import EVALUATE, Answer, ClientHalf, Learner, Outcome, Task
from thinwire.methods.learning import Sgd, model_tensors, proximal, train_epochs
from thinwire.methods.progfed import ProgfedSettings
from thinwire.methods.progfed.growing import stage_model


class Client(ClientHalf[ProgfedSettings]):
    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        if task.kind == EVALUATE:
            return self.evaluate(task, memory, learner)
        received, settings = task.arrays, self.settings
        own = model_tensors(learner.model)
        learner.load({name: array for name, array in received.items() if name in own})
        # The parts are the blocks and the head.
        model, temporary = stage_model(learner.model, received, len(task.parts) - 1, settings.growth)
        tensors = {**own, **temporary}
        metrics = {**learner.evaluate(model), "stage": float(len(task.parts) - 1)}
        with _only([tensors[name] for name in task.reply], list(tensors.values())):
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
        answer: dict[str, Array] = {name: tensors[name].detach().cpu().numpy() - received[name] for name in task.reply}
        return Outcome(Answer(answer, len(learner.train), metrics), memory, memory)


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
