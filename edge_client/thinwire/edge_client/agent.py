"""The agent: registers, fetches, performs, stages, answers, and remembers what the verdict says."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import httpcore

from thinwire.codecs import Array, Arrays, Spec
from thinwire.methods.interface import EVALUATE, Outcome, Task
from thinwire.methods.payloads import PRIVATE, encode_answer, merge_parts, receive
from thinwire.protocol.encoding import spec_digest
from thinwire.protocol.identity import broadcast_seed, client_seed
from thinwire.protocol.messages import (
    MAX_INLINE_BYTES,
    AnswerMessage,
    Enrolled,
    Enrolment,
    PartMessage,
    Registration,
    TaskMessage,
    VerdictMessage,
)
from thinwire.protocol.reasons import ProblemError

from .console import Say, in_bytes, in_words
from .learner import Learner
from .memory import Choice, Credentials, Folder, RunMemory, StagedOutcome
from .plans import MAX_PLAN_BYTES, CheckedPlan, TaskRefusedError, check_plan
from .records import TornRecordError
from .resumable import download, upload
from .transfer import FinishedError, Reply, Transfer, plain_headers, read_bounded

LONGEST_POLL_S: Final = 600
_SHORTEST_POLL_S: Final = 15
_LONGEST_PAUSE_S: Final = 300.0
_REFUSALS: Final = ("answer-invalid", "payload-invalid", "upload-too-large")
_MAX_METRICS: Final = 12


class _PartsLostError(Exception):
    """The parts that a task builds on cannot be read."""


class TaskTooLongError(Exception):
    """A task took more than `--max-task-seconds`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one task may cost this client. `seconds`: None is unlimited; `size_bytes`: of all its decoded arrays."""

    seconds: float | None = None
    size_bytes: int = 1 << 33


class Agent:
    """One client of one coordinator. `now_s` gives seconds that only differences are taken of."""

    def __init__(
        self,
        transfer: Transfer,
        folder: Folder,
        learner: Learner,
        *,
        say: Say,
        limits: Limits | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transfer = transfer
        self._folder = folder
        self._learner = learner
        self._say = say
        self._limits = limits or Limits()
        self._now_s = now_s
        self._spec = spec_digest(learner.spec)
        self._plans: dict[bytes, CheckedPlan] = {}
        self._poll_s = LONGEST_POLL_S
        self._link_before = folder.link()

    def serve(self, *, forever: bool = False) -> FinishedError:
        """Works until all runs this client could serve are over; `forever`: and goes on to wait for new ones.

        Returns how it ended. Raises: what `Transfer` and `check_plan` raise, `TaskTooLongError`, `CodecError`.
        """
        for memory in self._folder.runs():
            if memory.state.staged is not None:
                self._say("offering again the answer staged before")
                self._work_on(self._deliver(memory, memory.state.staged))
        ended: FinishedError | None = None
        pause_s = float(_SHORTEST_POLL_S)
        while ended is None or forever:
            try:
                self._work_on(self._register())
                pause_s = float(_SHORTEST_POLL_S)
            except FinishedError as finished:
                if ended is None:
                    self._say("all runs are over" + ("; waiting for new ones" if forever else ""))
                ended = finished
                if forever:
                    # Nobody holds the line for a client without a run; asking often would cost more than a poll does.
                    self._transfer.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return ended

    def link(self) -> tuple[int, int]:
        """Cumulative bytes sent and received as the kernel counts them, over all processes of this client's folder."""
        counts = self._transfer.backend.kernel()
        return self._link_before[0] + counts.sent, self._link_before[1] + counts.received

    def _work_on(self, task: TaskMessage | None) -> None:
        while task is not None:
            memory = self._folder.run(task.run)
            if memory.outcome(task.task) is None:
                try:
                    self._perform(task, memory)
                except _PartsLostError:
                    self._say("the parts held are damaged; asking for whole ones")
                    memory.forget_parts()
                    return
            task = self._deliver(memory, task.task)

    # -- registering ------------------------------------------------------------------------------------------

    def _register(self) -> TaskMessage | None:
        """The next task; None where the wait ended without one."""
        held = {memory.run: memory.state.held for memory in self._folder.runs() if memory.state.held is not None}
        message = Registration(spec=self._spec, holds=dict(list(held.items())[-16:]) or None)
        path = f"/v1/registrations?wait_s={self._poll_s}"
        begun = self._now_s()
        tries = 0
        while True:
            try:
                _, task, reply = self._transfer.call(
                    "POST", path, TaskMessage, message, patient_s=self._poll_s, once=True
                )
            except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
                waited = self._now_s() - begun
                if _SHORTEST_POLL_S <= waited < self._poll_s:
                    # Something on the way does not like idle connections.
                    self._poll_s = max(_SHORTEST_POLL_S, self._poll_s // 2)
                    return None
                tries += 1
                self._transfer.pause(tries, f"{type(error).__name__}: {error}")
                begun = self._now_s()
            except ProblemError as error:
                if not error.retry:
                    raise
                tries += 1
                self._transfer.pause(tries, str(error), error.retry_after_s)
            else:
                if task is None:
                    # Also where nothing is said, so that two processes with one name do not chase each other.
                    early = self._now_s() - begun < min(1, self._poll_s)
                    self._transfer.sleep(reply.retry_after_s or float(early))
                return task

    # -- performing -------------------------------------------------------------------------------------------

    def _perform(self, message: TaskMessage, memory: RunMemory) -> None:
        """Fetches, performs and stages a task."""
        checked = self._plan(message.plan)
        plan = checked.message
        if plan.run != message.run:
            raise TaskRefusedError("run-invalid", "the plan is of another run than the task")
        parts = self._parts(message, checked, memory)
        seed = client_seed(plan.seed, message.round, message.step, self._learner.name)
        reference = merge_parts(parts)
        self._learner.prepare(seed, reply=checked.reply, uplink=checked.chains.up, reference=reference)
        task = Task(message.round, message.step, plan.kind, parts, checked.reply, options=message.options or {})
        begun = self._now_s()
        with _at_most(self._limits.seconds):
            perform = checked.half.evaluate if plan.kind == EVALUATE else checked.half.perform
            outcome = perform(task, memory.memory(), self._learner)
            answer = outcome.answer.arrays
            payload = encode_answer(answer, checked.reply, checked.chains.up, reference=reference, seed=seed)
        metrics = _metrics(outcome, self._now_s() - begun)
        memory.stage(
            StagedOutcome(
                task=message.task,
                exchange=message.exchange,
                examples=min(outcome.answer.examples, plan.max_examples),
                metrics=metrics,
                payload=payload if len(checked.reply) else None,
                accepted=outcome.memory_if_accepted,
                refused=outcome.memory_if_refused,
            )
        )
        self._say(
            f"{_what(message, checked)}  {in_words(metrics)}  {metrics['seconds']:.1f} s  "
            f"answer {in_bytes(len(payload))}"
        )

    def _plan(self, digest: bytes) -> CheckedPlan:
        if digest not in self._plans:
            body = self._folder.plan(digest)
            if body is None:
                path = f"/v1/plans/{digest.hex()}"

                def attempt() -> Reply:
                    with self._transfer.open("GET", path, {}) as response:
                        return Reply(response.status, plain_headers(response), read_bounded(response, MAX_PLAN_BYTES))

                body = self._transfer.persist(attempt).body
            self._plans[digest] = check_plan(body, digest, self._spec, self._limits.size_bytes)
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
            raise _PartsLostError(str(error)) from None
        seed = broadcast_seed(checked.message.seed, message.round, message.step)
        parts: dict[str, Arrays] = {}
        for name, part in zip(names, message.parts, strict=False):
            spec = checked.parts[name]
            if part.form == "full":
                payload = self._payload(part, checked.chains.whole.max_payload_bytes(spec))
                parts[name] = receive(payload, spec, checked.chains, seed=seed)
            elif name not in base or Spec.of(base[name]) != spec:
                raise TaskRefusedError("run-invalid", f"part {name!r} builds on one that this client does not hold")
            elif part.form == "held":
                parts[name] = base[name]
            else:
                payload = self._payload(part, checked.chains.down.max_payload_bytes(spec))
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
        payload = self._payload(part, checked.chains.private.max_payload_bytes(spec))
        return checked.chains.private.decode(payload, spec, seed=seed)

    def _payload(self, part: PartMessage, most: int) -> bytes:
        if part.inline is not None:
            return part.inline
        if part.digest is None or part.size is None or part.size > most:
            raise TaskRefusedError("run-invalid", f"a part of {part.size} bytes; its spec allows {most}")
        return download(self._transfer, part.digest, part.size, self._folder.partial)

    # -- answering --------------------------------------------------------------------------------------------

    def _deliver(self, memory: RunMemory, task: str) -> TaskMessage | None:
        """Offers the outcome of this task until it has a verdict; promotes a memory; returns the next task, if any."""
        outcome = memory.outcome(task)
        if outcome is None:
            return None
        sent, received = self.link()
        self._folder.keep_link(sent, received)
        try:
            verdict = self._offer(memory, outcome, (sent, received))
        except ProblemError as error:
            if error.reason not in (*_REFUSALS, "task-not-found"):
                raise
            memory.decide(task, "refused")
            self._say(f"refused: {error}")
            return None
        choice: Choice = "accepted" if verdict.verdict in ("accepted", "duplicate") else "refused"
        memory.decide(task, choice)
        if verdict.verdict != "accepted":
            self._say(f"{verdict.verdict}" + (f": {verdict.detail}" if verdict.detail else ""))
        return verdict.next

    def _offer(self, memory: RunMemory, outcome: StagedOutcome, link: tuple[int, int]) -> VerdictMessage:
        path = f"/v1/tasks/{outcome.task}/answer"
        while True:
            message = AnswerMessage(
                examples=outcome.examples,
                metrics=dict(outcome.metrics),
                payload=outcome.payload if _is_small(outcome.payload) else None,
                upload=None if _is_small(outcome.payload) else self._upload(memory, outcome),
                link=link,
            )
            try:
                status, verdict, reply = self._transfer.call("POST", path, VerdictMessage, message)
                while status == 202 or verdict is None:
                    self._transfer.sleep(reply.retry_after_s or 1.0)
                    status, verdict, reply = self._transfer.call("POST", path, VerdictMessage, message)
            except ProblemError as error:
                if error.reason not in ("upload-not-found", "upload-incomplete", "digest-mismatch"):
                    raise
                memory.remember_upload(None)
            else:
                return verdict

    def _upload(self, memory: RunMemory, outcome: StagedOutcome) -> str:
        known = memory.state.upload if memory.state.staged == outcome.task else None
        assert outcome.payload is not None  # noqa: S101
        return upload(self._transfer, outcome.task, outcome.payload, known=known, remember=memory.remember_upload)


def enrol(transfer: Transfer, folder: Folder, invite: str | None, name: str | None) -> Credentials:
    """The credentials of this folder, from an invite where there are none yet.

    Raises: `ProblemError` (`invite-invalid`, `name-taken`), `LookupError` where an invite is needed.
    """
    found = folder.credentials()
    if found is not None and found.coordinator != transfer.address:
        raise LookupError(f"the data folder belongs to a client of {found.coordinator}; take another --data-dir")
    if found is None:
        if not invite:
            raise LookupError("this client has not enrolled; give an invite: --invite-file FILE, or THINWIRE_INVITE")
        _, enrolled, _ = transfer.call("POST", "/v1/clients", Enrolled, Enrolment(invite=invite, name=name))
        assert enrolled is not None  # noqa: S101
        found = Credentials(transfer.address, enrolled.client, enrolled.token)
        folder.keep_credentials(found)
    transfer.use_token(found.token)
    return found


def _what(message: TaskMessage, checked: CheckedPlan) -> str:
    plan = checked.message
    return "evaluation" if plan.kind == EVALUATE else f"round {message.round}/{plan.rounds} {plan.kind}"


def _is_small(payload: bytes | None) -> bool:
    return payload is None or len(payload) <= MAX_INLINE_BYTES


def _metrics(outcome: Outcome, seconds: float) -> dict[str, float]:
    """At most twelve, finite."""
    found = {name: float(value) for name, value in outcome.answer.metrics.items() if math.isfinite(value)}
    return {**dict(list(found.items())[: _MAX_METRICS - 1]), "seconds": seconds}


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
