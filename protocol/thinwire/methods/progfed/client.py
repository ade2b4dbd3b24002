"""The client half: builds the model of the stage from its blocks, trains what the answer must hold."""

from __future__ import annotations

from typing import Final

import numpy as np

from thinwire.codecs import Array, Arrays
from thinwire.methods.arrays import arrived, difference, headed, is_buffer, own_name, under
from thinwire.methods.client_half import ClientHalf, Need
from thinwire.methods.error_feedback import compensated, with_residual
from thinwire.methods.learner import Learner
from thinwire.methods.progfed import ProgfedSettings
from thinwire.methods.progfed.cuts import TEMPORARY
from thinwire.methods.progfed.growing import stage_model
from thinwire.methods.progfed.stages import check_stages
from thinwire.methods.tensors import as_array, model_tensors, rounded
from thinwire.methods.training import only_trained, proximal, train_locally
from thinwire.methods.values import EVALUATE, Answer, Outcome, Task

_OF_HEADS: Final = tuple(f"/{name}" for name in TEMPORARY.values())


class Client(ClientHalf[ProgfedSettings]):
    """Memory with error feedback: `residual/NAME`, what the uplink chain has lost; where the optimiser's state is kept,
    `optimizer/KIND/NAME`; `stage`, int64, when that was.
    """

    def needs(self) -> frozenset[Need]:
        return frozenset({"our optimizer"} if self.settings.local_state == "keep" else ())

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
        kept_for, known = np.array(len(task.parts), np.int64), memory
        if not np.array_equal(memory.get("stage", kept_for), kept_for):
            # Another stage has another temporary head of the same name.
            known = {name: array for name, array in memory.items() if not name.endswith(_OF_HEADS)}
        with only_trained([tensors[own_name(name)] for name in task.reply], list(tensors.values())):
            penalty = proximal(model, settings.proximal_mu)
            trained = train_locally(
                learner, settings, task, penalty=penalty, model=model, memory=known, measured=metrics
            )
        metrics |= trained.metrics
        answer: dict[str, Array] = {}
        for name in task.reply:
            tensor, before = tensors[own_name(name)], received[name]
            after = as_array(tensor)
            answer[name] = difference(after, before) if is_buffer(name) else after - rounded(before, tensor)
        if not settings.error_feedback:
            kept = {"stage": kept_for, **trained.memory} if trained.memory else {}
            return Outcome(Answer(answer, len(learner.train), metrics), kept, memory)
        known = under("residual", known)
        sent, lost = with_residual(compensated(answer, known), learner)
        # What a warm-up does not train keeps its residual.
        rest = {name: array for name, array in known.items() if name not in answer}
        kept = {"stage": kept_for, **headed("residual", {**rest, **lost}), **trained.memory}
        return Outcome(Answer(sent, len(learner.train), metrics), kept, memory)
