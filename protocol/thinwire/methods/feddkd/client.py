"""The client half: after training, the trained model's outputs are kept; a student is drawn towards them."""

from __future__ import annotations

import numpy as np
import torch

from thinwire.codecs import Array, Arrays
from thinwire.methods.arrays import headed, under
from thinwire.methods.client_half import ClientHalf, Need
from thinwire.methods.error_feedback import compensated, with_residual
from thinwire.methods.fedavg.client import Client as Fedavg
from thinwire.methods.feddkd import FeddkdSettings
from thinwire.methods.feddkd.divergence import gradient, portions
from thinwire.methods.learner import Learner
from thinwire.methods.own_part import OWN, receive
from thinwire.methods.samples import named
from thinwire.methods.tensors import model_tensors
from thinwire.methods.training import OPTIMIZER, change
from thinwire.methods.values import EVALUATE, Answer, Outcome, Task, TaskPassedError


class Client(ClientHalf[FeddkdSettings]):
    """Memory during a round: `chosen`, int64 (n,), the examples to distil on, in order; `data`, uint8 (8,), which names
    what they hold; `teacher`, (n, ...), the trained model's outputs on them, computed once; `residual/NAME`, what the
    uplink chain has lost of gradients. From round to round, with error feedback: `train/NAME`, what it has lost of the
    training exchange; and that of fedavg's optimiser.
    """

    def needs(self) -> frozenset[Need]:
        return frozenset({"our loop", "rows"})

    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        if task.kind == EVALUATE:
            return self.evaluate(task, memory, learner)
        return self._distil(task, memory, learner) if task.kind == "distil" else self._train(task, memory, learner)

    def evaluate(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        return Fedavg(self.settings).evaluate(task, memory, learner)

    def _train(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        known = {**headed("residual", under("train", memory)), **_passed_on(memory)}
        averaging = Fedavg(self.settings).perform(task, known, learner)
        after = averaging.memory_if_accepted
        kept = {**headed("train", under("residual", after)), **_passed_on(after)}
        if self.settings.distil_steps:
            size = self._size(learner)
            blocks = min(len(learner.train) // size, self.settings.distil_steps)
            order = np.random.default_rng(learner.seed).permutation(len(learner.train))
            kept["chosen"] = order[: size * blocks].astype(np.int64)
            kept["data"] = _named(learner, kept["chosen"])
            if self.settings.distil_target != "labels":
                kept["teacher"] = _outputs(learner, kept["chosen"], size)
        return Outcome(averaging.answer, kept, memory)

    def _distil(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        """Raises: `TaskPassedError` where what the model was trained on in this round is not this client's data now."""
        if "chosen" not in memory or ("data" in memory and not _holds(learner, memory)):
            raise TaskPassedError(
                "this client's examples are not those that it trained on in this round, so that it has no teacher for "
                "them; it takes part again from the next round's training on"
            )
        receive(learner, self.settings, task.arrays, memory)
        metrics = learner.evaluate()
        learner.model.eval()
        steps, size = self.settings.local_distil_steps, self._size(learner)
        first = (task.step - 1) * steps
        if steps == 1:
            found = gradient(learner, self.settings, memory, size=size, step=first)
        else:
            for step in range(first, min(first + steps, self.settings.distil_steps)):
                slope = gradient(learner, self.settings, memory, size=size, step=step)
                self._walk(learner, {name: slope[name] for name in task.reply})
            # The way gone, uphill like a gradient.
            found = {name: -array for name, array in change(learner, task.arrays).items()}
        wanted = compensated({name: found[name] for name in task.reply}, under("residual", memory))
        answer, lost = with_residual(wanted, learner)
        kept = {name: array for name, array in memory.items() if not name.startswith("residual/")}
        return Outcome(Answer(answer, len(learner.train), metrics), {**kept, **headed("residual", lost)}, memory)

    def _size(self, learner: Learner) -> int:
        """Examples per step."""
        wanted, there = self.settings.distil_samples, len(learner.train)
        return there if wanted == "all" else min(wanted, there)

    def _walk(self, learner: Learner, slope: Arrays) -> None:
        """One local step of plain SGD."""
        with torch.no_grad():
            tensors = model_tensors(learner.model)
            for name, array in slope.items():
                tensors[name] -= self.settings.local_distil_lr * torch.from_numpy(array).to(tensors[name])


def _passed_on(memory: Arrays) -> dict[str, Array]:
    """What fedavg's half remembers beside residuals."""
    return {**headed(OPTIMIZER, under(OPTIMIZER, memory)), **headed(OWN, under(OWN, memory))}


def _named(learner: Learner, chosen: Array) -> Array:
    """What names these examples, as an array."""
    return np.frombuffer(named(learner.train, torch.from_numpy(chosen.copy())), np.uint8)


def _holds(learner: Learner, memory: Arrays) -> bool:
    """Whether the examples that were chosen are what they were."""
    chosen = memory["chosen"]
    there = not len(chosen) or int(chosen.max()) < len(learner.train)
    return there and bool(np.array_equal(_named(learner, chosen), memory["data"]))


def _outputs(learner: Learner, chosen: Array, size: int) -> Array:
    """The model's outputs on these examples, in evaluation mode, block by block of `size`."""
    learner.model.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(chosen), size):
            for portion in portions(start, start + size):
                batch = learner.train.take(torch.from_numpy(chosen[portion].copy()))
                found.append(learner.outputs(learner.model, batch.inputs))
    outputs: Array = torch.cat(found).cpu().numpy()
    return outputs
