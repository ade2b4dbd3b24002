"""The client half: a block of local rounds with frozen knowledge of the others, then one answer."""

from __future__ import annotations

import torch

from thinwire.codecs import Arrays
from thinwire.methods.arrays import headed, under
from thinwire.methods.client_half import ClientHalf, Need
from thinwire.methods.fd_alu import FdAluSettings
from thinwire.methods.fd_alu.teachers import TEACHERS, Teacher
from thinwire.methods.learner import Learner
from thinwire.methods.local_optimizers import Optimizer, autocast, build, clip
from thinwire.methods.values import EVALUATE, Answer, Outcome, Task, TaskRefusedError
from thinwire.protocol.identity import client_seed


class Client(ClientHalf[FdAluSettings]):
    """Memory: `model/NAME`, this client's model, whatever became of the answer; what its teacher remembers of an answer
    that was counted; `data`, of the last one that was, whatever became of those behind it.
    """

    def needs(self) -> frozenset[Need]:
        return frozenset({"our loop", "rows"})

    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        if task.kind == EVALUATE:
            return self.evaluate(task, memory, learner)
        _load_own(memory, learner)
        _check(learner, task)
        metrics = _measured(learner)
        teacher = TEACHERS[self.settings.knowledge](self.settings, task, memory, learner)
        self._train(task, learner, teacher)
        learner.model.eval()
        answer, counted = teacher.knowledge()
        model = headed("model", learner.arrays())
        before = {"data": memory["data"]} if "data" in memory else {}
        return Outcome(Answer(answer, len(learner.train), metrics), {**model, **counted}, {**model, **before})

    def evaluate(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        """Of this client's own model."""
        _load_own(memory, learner)
        return Outcome(Answer({}, len(learner.train), _measured(learner)), memory, memory)

    def _train(self, task: Task, learner: Learner, teacher: Teacher) -> None:
        """One optimiser for the block; the order of examples follows from run, client and local round alone."""
        settings = self.settings
        named = {name: one for name, one in learner.model.named_parameters() if one.requires_grad}
        if learner.optimizer is not None:
            optimiser: Optimizer = learner.optimizer(list(named.values()), settings.lr)
        else:
            optimiser = build(
                settings.local_optimizer, named, lr=settings.lr, momentum=settings.momentum,
                betas=settings.local_betas, weight_decay=settings.weight_decay,
            )  # fmt: skip
        learner.model.train()
        for number in settings.local_rounds(task.round):
            seed = client_seed(int(task.options["seed"]), number, 0, learner.name)
            torch.manual_seed(seed)
            teacher.lesson(optimiser, seed)
            for batch in learner.train.batches(settings.batch_size, seed):
                inputs, targets = batch.pair
                optimiser.zero_grad()
                with autocast(settings.precision, learner.device):
                    outputs = learner.outputs(learner.model, inputs)
                    value = learner.loss(outputs, targets)
                assert batch.rows is not None  # noqa: S101  # numbered: `needs`
                term = teacher.term(batch.rows, outputs) if settings.beta else None
                if term is not None:
                    value = value + settings.beta * term
                value.backward()  # type: ignore[no-untyped-call]
                clip(learner.model, settings.clip_norm)
                optimiser.step()


def _load_own(memory: Arrays, learner: Learner) -> None:
    learner.load(under("model", memory) or learner.first_arrays())


def _check(learner: Learner, task: Task) -> None:
    """Raises: `TaskRefusedError` unless the model scores the run's classes, and the examples have one class each."""
    # Every kind of knowledge has rows of scores or probabilities, and nothing else is floating.
    classes = next(item.max_shape[-1] for item in task.reply.values() if item.is_floating)
    targets = learner.train.targets()
    learner.model.eval()
    with torch.no_grad():
        shape = tuple(learner.outputs(learner.model, learner.train.few(1).batch.inputs).shape)
    if shape != (1, classes):
        raise TaskRefusedError("model-mismatch", f"the run has {classes} classes; this model's output is {shape[1:]}")
    if targets.ndim != 1 or targets.is_floating_point():
        raise TaskRefusedError("model-mismatch", "this method needs one class per example")
    if not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise TaskRefusedError("model-mismatch", f"an example's class is not within 0 to {classes - 1}")


def _measured(learner: Learner) -> dict[str, float]:
    """On the common test examples, and on those distributed like the client's own."""
    found = learner.evaluate()
    if learner.personal is not None:
        personal = learner.evaluate(samples=learner.personal)
        found |= {f"personal_{name}": personal[name] for name in ("accuracy", "loss") if name in personal}
    return found
