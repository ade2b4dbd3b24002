"""The client half: trains the received model on the client's examples and answers with the change."""

from __future__ import annotations

from thinwire.codecs import Array, Arrays
from thinwire.methods.fedavg import FedavgSettings
from thinwire.methods.interface import EVALUATE, Answer, ClientHalf, Learner, Outcome, Task
from thinwire.methods.learning import Penalty, change, proximal, train_locally


class Client(ClientHalf[FedavgSettings]):
    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        if task.kind == EVALUATE:
            return self.evaluate(task, memory, learner)
        received = task.arrays
        learner.load(received)
        metrics = learner.evaluate()
        train_locally(learner, self.settings, task, self.penalty(learner, received))
        return Outcome(Answer(self.answer(learner, received), len(learner.train), metrics), memory, memory)

    def penalty(self, learner: Learner, received: Arrays) -> Penalty | None:
        """What is added to the loss, around the parameters just received."""
        return proximal(learner.model, self.settings.proximal_mu)

    def answer(self, learner: Learner, received: Arrays) -> dict[str, Array]:
        """What is sent of the trained model."""
        return change(learner, received)
