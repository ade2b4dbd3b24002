"""Performing one task: its plan and parts fetched and checked, the method's client half run, the answer encoded."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Protocol

from thinwire.codecs import Array, Arrays, CodecError, Spec
from thinwire.machine.memory import give_back_freed_memory
from thinwire.machine.quantities import in_bytes
from thinwire.methods.arrays import check_finite
from thinwire.methods.client_half import check_needs
from thinwire.methods.payloads import PRIVATE, first_payload, merge_parts, receive
from thinwire.methods.progress import UNCHECKED, UNMOVED
from thinwire.methods.values import EVALUATE, Outcome, Task, TaskRefusedError
from thinwire.protocol.encoding import spec_digest
from thinwire.protocol.identity import broadcast_seed, client_seed, digest_of
from thinwire.protocol.messages import PartMessage, TaskMessage
from thinwire.protocol.reasons import ProblemError

from .console import Say, in_words
from .learner import Learner, NarrowChainError, said_of_not_finite
from .memory.folder import Folder
from .memory.records import TornRecordError
from .memory.runs import RunMemory, StagedOutcome
from .plans import MAX_PLAN_BYTES, CheckedPlan, check_plan
from .progress import Progress

_MAX_METRICS: Final = 12


class PartsLostError(Exception):
    """The parts that a task builds on cannot be read."""


class TaskTooLongError(Exception):
    """A task took more than `--max-task-seconds`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one task may cost this client. `seconds`: None is unlimited; `size_bytes`: of all its decoded arrays."""

    seconds: float | None = None
    size_bytes: int = 1 << 33


class Fetch(Protocol):
    """As `thinwire.edge_client.link.resumable.download`, from this client's coordinator."""

    def __call__(self, digest: bytes, size: int | None, *, most: int = ..., kind: str = ...) -> bytes: ...


class Performer:
    """Turns tasks into outcomes, by one learner. `now_s` gives seconds that only differences are taken of. `own_first`:
    make the run's first model instead of downloading it, where it is this client's own. `threads`: of torch.
    """

    def __init__(
        self,
        fetch: Fetch,
        folder: Folder,
        learner: Learner,
        *,
        say: Say,
        limits: Limits,
        now_s: Callable[[], float],
        own_first: bool = True,
        threads: int = 1,
    ) -> None:
        self._fetch = fetch
        self._folder = folder
        self._learner = learner
        self._say = say
        self._limits = limits
        self._now_s = now_s
        self._own_first = own_first
        self._threads = threads
        self._tried: set[tuple[str, str]] = set()
        self._spec = spec_digest(learner.spec)
        self._plans: dict[bytes, CheckedPlan] = {}
        self._proved: set[bytes] = set()
        self._progress = Progress(learner.spec, say)

    def perform(self, message: TaskMessage, memory: RunMemory) -> StagedOutcome:
        """Fetches and performs a task.

        Raises: `TaskRefusedError`, `BrokenModelError`, `PartsLostError`, `TaskTooLongError`, `CodecError`, and what
        `fetch` raises.
        """
        checked = self._plan(message.plan)
        plan = checked.message
        if plan.run != message.run:
            raise TaskRefusedError("run-invalid", "the plan is of another run than the task")
        parts = self._parts(message, checked, memory)
        seed = client_seed(plan.seed, message.round, message.step, self._learner.name)
        begun = self._now_s()
        self._learner.prepare(
            seed,
            reply=checked.reply,
            uplink=checked.chains.up,
            reference=merge_parts(parts),
            round_=message.round,
            rounds=plan.rounds,
            seconds_left=lambda: self._seconds_left(begun),
        )
        if plan.kind != EVALUATE:
            self._learner.watch(merge_parts(parts), first=message.round == 1)
        task = Task(message.round, message.step, plan.kind, parts, checked.reply, options=message.options or {})
        try:
            with _at_most(self._limits.seconds):
                if message.plan not in self._proved:
                    self._prove(checked, task)
                    self._proved.add(message.plan)
                perform = checked.half.evaluate if plan.kind == EVALUATE else checked.half.perform
                outcome = perform(task, memory.memory(), self._learner)
                check_finite(outcome.answer.arrays)
                payload = self._learner.encoded(outcome.answer.arrays)
        except NarrowChainError:
            raise
        except CodecError as error:
            if error.reason != "out-of-range":
                raise
            cause = said_of_not_finite(self._learner.train, "train")
            cause = cause or "Training diverges on this client's data: lower the run's lr"
            raise CodecError(error.reason, f"{error.detail}. {cause}") from None
        finally:
            give_back_freed_memory()
        most = self._learner.max_answer_bytes
        if most is not None and len(payload) > most:
            raise TaskRefusedError(
                "run-invalid", f"an answer of {len(payload)} bytes; this client sends at most {most}"
            )
        unmoved = plan.kind != EVALUATE and self._progress.unmoved(message, outcome.answer.arrays)
        own = {UNMOVED: 1.0} if unmoved else {}
        if message.round == 1 and plan.model is not None and plan.frozen is None and self._learner.frozen:
            own[UNCHECKED] = 1.0
            self._say("what does not travel of this model cannot be compared: the run has no marks of it")
        if self._threads != 1:
            own["threads"] = float(self._threads)
        metrics = _metrics(outcome, self._now_s() - begun, own)
        if unknown := sorted(set(outcome.answer.metrics) - set(metrics)):
            self._say(f"{', '.join(unknown)}: not told, since not finite or one too many")
            evaluation = self._learner.evaluation
            if evaluation is not None and (words := said_of_not_finite(evaluation, "evaluation")):
                self._say(words)
        self._say(
            f"{_what(message, checked)}  {in_words(metrics)}  {metrics['seconds']:.1f} s  "
            f"answer {in_bytes(len(payload))}"
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

    def _plan(self, digest: bytes) -> CheckedPlan:
        if digest not in self._plans:
            kept = self._folder.plan(digest)
            body = kept
            if body is None:
                try:
                    body = self._fetch(digest, None, most=MAX_PLAN_BYTES, kind="plans")
                except ProblemError as error:
                    if error.reason != "digest-mismatch":
                        raise
                    raise TaskRefusedError(error.reason, f"of the plan: {error.detail}") from None
            checked = check_plan(body, digest, self._spec, self._learner.frozen, self._limits.size_bytes)
            check_needs(checked.half, self._learner, checked.message.method)
            self._plans[digest] = checked
            if kept is None:
                self._folder.keep_plan(digest, body)
        return self._plans[digest]

    def _parts(self, message: TaskMessage, checked: CheckedPlan, memory: RunMemory) -> dict[str, Arrays]:
        """The decoded parts, kept on disk before the work begins: they are not fetched twice."""
        names = list(checked.parts)
        if not len(names) <= len(message.parts) <= len(names) + 1:
            raise TaskRefusedError("run-invalid", f"{len(message.parts)} parts where the plan names {len(names)}")
        try:
            base = memory.parts() if any(part.form != "full" for part in message.parts) else {}
        except (TornRecordError, FileNotFoundError) as error:
            raise PartsLostError(str(error)) from None
        seed = broadcast_seed(checked.message.seed, message.round, message.step)
        parts: dict[str, Arrays] = {}
        for name, part in zip(names, message.parts, strict=False):
            spec = checked.parts[name]
            if part.form == "full":
                payload = self._own_payload(name, part, checked, seed)
                if payload is None:
                    payload = self._payload(part, checked.chains.whole.bound(spec).max_payload_bytes)
                parts[name] = receive(payload, spec, checked.chains, seed=seed)
            elif name not in base or not _fits(spec, base[name]):
                raise TaskRefusedError("run-invalid", f"part {name!r} builds on one that this client does not hold")
            elif part.form == "held":
                parts[name] = base[name]
            else:
                payload = self._payload(part, checked.chains.down.bound(spec).max_payload_bytes)
                parts[name] = receive(payload, spec, checked.chains, base=base[name], seed=seed)
        if memory.state.held != message.exchange:
            memory.hold(message.exchange, parts)
        if len(message.parts) > len(names):
            parts[PRIVATE] = self._private(message, checked)
        return parts

    def _private(self, message: TaskMessage, checked: CheckedPlan) -> dict[str, Array]:
        part = message.parts[-1]
        if part.spec is None or part.form != "full":
            raise TaskRefusedError("run-invalid", "a private part comes whole and with its spec")
        spec = Spec.from_plain(part.spec)
        if spec.max_bytes > self._limits.size_bytes:
            raise TaskRefusedError("run-invalid", f"a private part of {spec.max_bytes} bytes")
        seed = client_seed(checked.message.seed, message.round, message.step, self._learner.name)
        payload = self._payload(part, checked.chains.private.bound(spec).max_payload_bytes)
        return checked.chains.private.decode(payload, spec, seed=seed)

    def _own_payload(self, name: str, part: PartMessage, checked: CheckedPlan, seed: int) -> bytes | None:
        """The payload of a part that holds arrays of this client's own first model, which then need not travel: what
        their encoding gives is what was announced, to the digest. Tried once, since later ones are of trained models.
        """
        run = checked.message.run
        if not self._own_first or part.digest is None or (run, name) in self._tried:
            return None
        self._tried.add((run, name))
        payload = first_payload(self._learner, checked.parts[name], checked.chains, seed)
        if payload is None:
            return None
        if digest_of(payload) != part.digest:
            return None
        self._say(f"{name}: as this client's own first model has it; {in_bytes(len(payload))} need not travel")
        return payload

    def _prove(self, checked: CheckedPlan, task: Task) -> None:
        """A model that the method cannot work with is none of one task alone: the plan is refused."""
        try:
            checked.half.check(task, self._learner)
        except CodecError as error:
            raise TaskRefusedError("run-invalid", error.detail) from None

    def _payload(self, part: PartMessage, most: int) -> bytes:
        if part.inline is not None:
            return part.inline
        if part.digest is None or part.size is None or part.size > most:
            raise TaskRefusedError("run-invalid", f"a part of {part.size} bytes; its spec allows {most}")
        return self._fetch(part.digest, part.size)


def _fits(spec: Spec, arrays: Arrays) -> bool:
    """Whether a part that is held is one of this spec, whose dimensions may be open."""
    try:
        spec.check(arrays)
    except CodecError:
        return False
    return list(spec) == list(arrays)


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


@contextmanager
def _at_most(seconds: float | None) -> Iterator[None]:
    """Raises `TaskTooLongError` in the middle of the work when the time is up."""
    if seconds is None:
        yield
        return

    def stop(_: int, __: FrameType | None) -> Any:
        raise TaskTooLongError(f"the task took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
