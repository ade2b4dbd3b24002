"""The client half: trains the received model on the client's examples and answers with the change."""

from __future__ import annotations

from thinwire.codecs import Array, Arrays
from thinwire.methods.arrays import headed, under
from thinwire.methods.client_half import ClientHalf, Need
from thinwire.methods.error_feedback import compensated, with_residual
from thinwire.methods.fedavg import FedavgSettings
from thinwire.methods.learner import Learner
from thinwire.methods.own_part import own_part, receive, trains
from thinwire.methods.training import change, proximal, train_locally
from thinwire.methods.values import EVALUATE, Answer, Outcome, Task
from thinwire.methods.work import Penalty


class Client(ClientHalf[FedavgSettings]):
    """Memory with error feedback: `residual/NAME`, what the uplink chain lost of the last accepted answer; where the
    optimiser's state is kept, `optimizer/KIND/NAME`; `own/NAME`, what each client has for itself.
    """

    def needs(self) -> frozenset[Need]:
        return frozenset({"our optimizer"} if self.settings.local_state == "keep" else ())

    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        if task.kind == EVALUATE:
            return self.evaluate(task, memory, learner)
        received = task.arrays
        receive(learner, self.settings, received, memory)
        metrics = learner.evaluate()
        with trains(learner, self.settings, received):
            penalty = self.penalty(learner, received)
            trained = train_locally(learner, self.settings, task, penalty=penalty, memory=memory, measured=metrics)
        metrics |= trained.metrics
        kept = {**trained.memory, **own_part(learner, self.settings, received)}
        arrays = self.answer(learner, received)
        if not self.settings.error_feedback:
            self.narrow(arrays, learner)
            return Outcome(Answer(arrays, len(learner.train), metrics), kept, memory)
        arrays = compensated(arrays, under("residual", memory))
        self.narrow(arrays, learner)
        answer, lost = with_residual(arrays, learner)
        return Outcome(Answer(answer, len(learner.train), metrics), {**headed("residual", lost), **kept}, memory)

    def evaluate(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        receive(learner, self.settings, task.arrays, memory)
        return Outcome(Answer({}, len(learner.train), learner.evaluate()), memory, memory)

    def penalty(self, learner: Learner, received: Arrays) -> Penalty | None:
        """What is added to the loss, around the parameters just received."""
        return proximal(learner.model, self.settings.proximal_mu)

    def answer(self, learner: Learner, received: Arrays) -> dict[str, Array]:
        """What is sent of the trained model."""
        return change(learner, received)

    def narrow(self, answer: Arrays, learner: Learner) -> None:
        """Puts a narrower chain in place of `learner.uplink` where this client has to spare bytes."""
