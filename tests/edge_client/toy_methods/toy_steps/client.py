"""The client half of the toy."""

from __future__ import annotations

import numpy as np

from thinwire.codecs import Arrays
from thinwire.methods.client_half import ClientHalf
from thinwire.methods.learner import Learner
from thinwire.methods.toy_steps import Settings
from thinwire.methods.values import Answer, Outcome, Task


class Client(ClientHalf[Settings]):
    performed = 0

    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        """The model plus the step; the memory counts accepted and refused answers."""
        type(self).performed += 1
        if self.settings.defect:
            raise ZeroDivisionError(f"the user's numbers: {learner.train}")
        counted = memory.get("counted", np.zeros(2, np.int64))
        private = task.parts.get("private", {}).get("offset", np.zeros(1, np.float32))
        answer = {
            name: array + np.float32(self.settings.step) + private[0] for name, array in task.parts["model"].items()
        }
        return Outcome(
            Answer(answer, len(learner.train), {"loss": float(counted[0]), "odd": float("nan")}),
            {"counted": counted + np.array([1, 0])},
            {"counted": counted + np.array([0, 1])},
        )
