"""The client half: what it kept is in its memory, halved whenever an echo of it was counted."""

from __future__ import annotations

import numpy as np

from thinwire.codecs import Arrays
from thinwire.methods.client_half import ClientHalf
from thinwire.methods.learner import Learner
from thinwire.methods.settings import LocalTraining
from thinwire.methods.toy_relay import ToyRelaySettings
from thinwire.methods.training import change, train_locally
from thinwire.methods.values import EVALUATE, Answer, Outcome, Task


class Client(ClientHalf[ToyRelaySettings]):
    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        if task.kind == EVALUATE:
            return self.evaluate(task, memory, learner)
        assert task.arrays["constant"].sum() == 10
        model = task.parts["model"]
        learner.load(model)
        metrics = learner.evaluate()
        if task.kind == "draw":
            train_locally(learner, LocalTraining(batch_size=1000), task)
            update, heard = change(learner, model), task.parts["private"]["name"]
            assert heard.tobytes().decode() == learner.name[-4:]
        else:
            update, heard = {name: array / 2 for name, array in memory.items()}, np.zeros(4, np.uint8)
        answer = Answer({**update, "heard": heard}, len(learner.train), metrics)
        return Outcome(answer, memory_if_accepted=update, memory_if_refused=memory)
