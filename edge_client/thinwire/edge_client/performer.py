"""Performing one task: what it brings received, the method's client half run, the answer encoded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from thinwire.codecs import Arrays, CodecError
from thinwire.machine.memory import give_back_freed_memory
from thinwire.machine.quantities import in_bytes
from thinwire.methods.arrays import check_finite
from thinwire.methods.frozen_parts import mark_as_number
from thinwire.methods.payloads import merge_parts
from thinwire.methods.progress import DIVERGING, UNCHECKED, UNMOVED
from thinwire.methods.values import EVALUATE, Outcome, Task, TaskRefusedError
from thinwire.protocol.identity import client_seed
from thinwire.protocol.messages import TaskMessage

from .console import Say, in_words
from .learner import Learner, NarrowChainError, Turns, said_of_not_finite
from .limits import Limits, at_most
from .memory.folder import Folder
from .memory.runs import RunMemory, StagedOutcome
from .plans import CheckedPlan
from .progress import Progress
from .receiving import Fetch, Receiving

_MAX_METRICS: Final = 12


class Performer:
    """Turns tasks into outcomes, by one learner, held while it works and not while anything is fetched. `now_s`
    gives seconds that only differences are taken of. `own_first`: make the run's first model instead of downloading it,
    where it is this client's own. `threads`: of torch.
    """

    def __init__(
        self,
        fetch: Fetch,
        folder: Folder,
        learner: Turns,
        *,
        say: Say,
        limits: Limits,
        now_s: Callable[[], float],
        own_first: bool = True,
        threads: int = 1,
    ) -> None:
        self._learner = learner
        self._say = say
        self._limits = limits
        self._now_s = now_s
        self._threads = threads
        self._receiving = Receiving(fetch, folder, learner, say=say, own_first=own_first, size_bytes=limits.size_bytes)
        self._proved: set[bytes] = set()
        self._progress = Progress(learner.spec, say)

    def perform(self, message: TaskMessage, memory: RunMemory) -> StagedOutcome:
        """Fetches and performs a task.

        Raises: `TaskRefusedError`, `BrokenModelError`, `PartsLostError`, `TaskTooLongError`, `CodecError`, and what
        `fetch` raises.
        """
        with self._learner.task():
            checked = self._receiving.plan(message.plan)
            if checked.message.run != message.run:
                raise TaskRefusedError("run-invalid", "the plan is of another run than the task")
            parts = self._receiving.parts(message, checked, memory)
            with self._learner.turn() as learner:
                return self._work(learner, message, checked, parts, memory)

    def _work(
        self,
        learner: Learner,
        message: TaskMessage,
        checked: CheckedPlan,
        parts: Mapping[str, Arrays],
        memory: RunMemory,
    ) -> StagedOutcome:
        plan, begun = checked.message, self._now_s()
        learner.prepare(
            client_seed(plan.seed, message.round, message.step, learner.name),
            reply=checked.reply,
            uplink=checked.chains(message.round).up,
            reference=merge_parts(parts),
            round_=message.round,
            rounds=plan.rounds,
            seconds_left=lambda: self._seconds_left(begun),
        )
        if plan.kind != EVALUATE:
            learner.watch(merge_parts(parts), first=message.round == 1)
        task = Task(message.round, message.step, plan.kind, parts, checked.reply, options=message.options or {})
        try:
            with at_most(self._limits):
                if message.plan not in self._proved:
                    _prove(checked, task, learner)
                    self._proved.add(message.plan)
                perform = checked.half.evaluate if plan.kind == EVALUATE else checked.half.perform
                outcome = perform(task, memory.memory(), learner)
                check_finite(outcome.answer.arrays)
                payload = learner.encoded(outcome.answer.arrays)
        except NarrowChainError:
            raise
        except CodecError as error:
            if error.reason != "out-of-range":
                raise
            cause = said_of_not_finite(learner.train, "train")
            cause = cause or "Training diverges on this client's data: lower the run's lr"
            raise CodecError(error.reason, f"{error.detail}. {cause}") from None
        finally:
            learner.forget()
            give_back_freed_memory()
        most = learner.max_answer_bytes
        if most is not None and len(payload) > most:
            raise TaskRefusedError(
                "run-invalid", f"an answer of {len(payload)} bytes; this client sends at most {most}"
            )
        return self._staged(learner, message, checked, outcome, payload, self._now_s() - begun)

    def _staged(
        self,
        learner: Learner,
        message: TaskMessage,
        checked: CheckedPlan,
        outcome: Outcome,
        payload: bytes,
        seconds: float,
    ) -> StagedOutcome:
        """The outcome with what is told of it, to the coordinator and to the person at the device."""
        plan = checked.message
        unmoved = plan.kind != EVALUATE and self._progress.unmoved(message, outcome.answer.arrays)
        own = {UNMOVED: 1.0} if unmoved else {}
        if plan.kind != EVALUATE and plan.model is not None and plan.frozen is None and learner.frozen:
            own[UNCHECKED] = mark_as_number(learner.frozen)
            if message.round == 1:
                self._say("what does not travel of this model cannot be compared here: the run has no marks of it")
        if self._threads != 1:
            own["threads"] = float(self._threads)
        metrics = _metrics(outcome, seconds, own)
        if unknown := sorted(set(outcome.answer.metrics) - set(metrics)):
            self._say(f"{', '.join(unknown)}: not told, since not finite or one too many")
            evaluation = learner.evaluation
            if evaluation is not None and (words := said_of_not_finite(evaluation, "evaluation")):
                self._say(words)
        shown = {name: value for name, value in metrics.items() if name not in (UNCHECKED, DIVERGING)}
        self._say(
            f"{_what(message, checked)}  {in_words(shown)}  {metrics['seconds']:.1f} s  answer {in_bytes(len(payload))}"
        )
        self._progress.measured(message, metrics)
        self._progress.trained(message, metrics)
        return StagedOutcome(
            task=message.task,
            exchange=message.exchange,
            examples=min(outcome.answer.examples, plan.max_examples),
            metrics=metrics,
            payload=payload if len(checked.reply) else None,
            accepted=outcome.memory_if_accepted,
            refused=outcome.memory_if_refused,
        )

    def _seconds_left(self, begun: float) -> float | None:
        return None if self._limits.seconds is None else begun + self._limits.seconds - self._now_s()


def _prove(checked: CheckedPlan, task: Task, learner: Learner) -> None:
    """A model that the method cannot work with fits none of its tasks: the plan is refused."""
    try:
        checked.half.check(task, learner)
    except CodecError as error:
        raise TaskRefusedError("run-invalid", error.detail) from None


def _what(message: TaskMessage, checked: CheckedPlan) -> str:
    plan = checked.message
    return "evaluation" if plan.kind == EVALUATE else f"round {message.round}/{plan.rounds} {plan.kind}"


def _metrics(outcome: Outcome, seconds: float, more: Mapping[str, float]) -> dict[str, float]:
    """At most twelve, finite; `not_finite`: how many were not, so that a round without a loss says why."""
    given = outcome.answer.metrics
    found = {name: float(value) for name, value in given.items() if math.isfinite(value)}
    own = {"seconds": seconds, **more}
    if len(found) < len(given):
        own["not_finite"] = float(len(given) - len(found))
    return {**dict(list(found.items())[: _MAX_METRICS - len(own)]), **own}
