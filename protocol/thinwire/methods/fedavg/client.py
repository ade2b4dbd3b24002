"""The client half: trains the received model on the client's examples and answers with the change."""

from __future__ import annotations

from thinwire.codecs import Arrays
from thinwire.methods.fedavg import FedavgSettings
from thinwire.methods.interface import EVALUATE, Answer, ClientHalf, Learner, Outcome, Task
from thinwire.methods.learning import change, proximal, train_locally


class Client(ClientHalf[FedavgSettings]):
    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        if task.kind == EVALUATE:
            return self.evaluate(task, memory, learner)
        received = task.arrays
        learner.load(received)
        metrics = learner.evaluate()
        penalty = proximal(learner.model, self.settings.proximal_mu)
        train_locally(learner, self.settings, task, penalty)
        return Outcome(Answer(change(learner, received), len(learner.train), metrics), memory, memory)
