"""The agent: registers, fetches, performs, stages, answers, and remembers what the verdict says."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import httpcore

from thinwire.codecs import CodecError
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.encoding import spec_digest
from thinwire.protocol.messages import (
    MAX_INLINE_BYTES,
    AnswerMessage,
    DeclineMessage,
    Enrolled,
    Enrolment,
    Registration,
    TaskMessage,
    VerdictMessage,
)
from thinwire.protocol.reasons import ProblemError

from .care import LinkCare
from .console import Say
from .learner import Learner
from .memory import Choice, Credentials, Folder, RunMemory, StagedOutcome
from .performer import Limits, PartsLostError, Performer, TaskTooLongError
from .records import TornRecordError
from .resumable import upload
from .sockets import UntrustedError
from .transfer import BadPeerError, BrokenError, FinishedError, Reply, Transfer, UnreachableError, broke

LONGEST_POLL_S: Final = 600
_SHORTEST_POLL_S: Final = 15
_LONGEST_PAUSE_S: Final = 300.0
_BREAKS: Final = 3
"""A message with a payload inside that breaks off so often is too long for this link."""
_REFUSALS: Final = ("answer-invalid", "payload-invalid", "upload-too-large")
_PASSING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_LONGEST_DISK_PAUSE_S: Final = 60.0
_RESENT: Final = ("upload-not-found", "upload-incomplete", "digest-mismatch")
"""What is wrong with an upload that sending its bytes mends."""
_NO_UPLOAD: Final = "000000"
"""No upload has this id. A message that names it asks what became of an earlier one."""
_GONE: Final = ("payload-not-found", "plan-not-found")
"""What a task needs is no longer kept."""
_TIMES_MISSED: Final = 5
_LONGEST_DETAIL: Final = 300
_UNHEARD: Final = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)
_ENDS_TALK: Final = (UnreachableError, BadPeerError, UntrustedError, FinishedError)
ResultT = TypeVar("ResultT")


class Agent:
    """One client of one coordinator. `now_s`, `own_first`: as for `Performer`."""

    def __init__(
        self,
        transfer: Transfer,
        folder: Folder,
        learner: Learner,
        *,
        say: Say,
        limits: Limits | None = None,
        care: LinkCare | None = None,
        now_s: Callable[[], float] = time.monotonic,
        own_first: bool = True,
    ) -> None:
        self._transfer = transfer
        self._folder = folder
        self._say = say
        self._care = care
        self._now_s = now_s
        self._spec = spec_digest(learner.spec)
        self._performer = Performer(
            transfer, folder, learner, say=say, limits=limits or Limits(), now_s=now_s, own_first=own_first
        )
        self._poll_s = LONGEST_POLL_S
        self._inline = True
        self._link_before = folder.link()
        self._missed = "", 0

    def serve(self, *, forever: bool = False) -> FinishedError:
        """Works until all runs this client could serve are over; `forever`: and goes on to wait for new ones.

        Returns how it ended. Raises: what `Transfer` and `check_plan` raise, `TaskTooLongError`, `OverBudgetError`,
        `CodecError`.
        """
        for memory in self._folder.runs():
            if memory.state.staged is not None:
                self._say("offering again the answer staged before")
                self._work_on(self._despite_disk(partial(self._deliver, memory, memory.state.staged)))
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
                self._hold(sum(part.size or 0 for part in task.parts))
                try:
                    outcome = self._despite_disk(partial(self._performer.perform, task, memory))
                    self._despite_disk(partial(memory.stage, outcome))
                except (TaskRefusedError, TaskTooLongError, CodecError) as error:
                    self._decline(task.task, str(error))
                    raise
                except PartsLostError:
                    self._say("the parts held are damaged; asking for whole ones")
                    memory.forget_parts()
                    return
                except ProblemError as error:
                    if error.reason not in _GONE:
                        raise
                    self._miss(task.task, error)
                    return
                except (OSError, TornRecordError, *_ENDS_TALK):
                    raise
                except Exception as error:
                    # A defect of the user's task or of ours: its words may hold data, which stay here.
                    self._decline(task.task, type(error).__name__)
                    raise
            task = self._despite_disk(partial(self._deliver, memory, task.task))

    def _decline(self, task: str, why: str) -> None:
        """Gives a task up that this client cannot do, so that nobody waits for it. Tried once: the client is about to
        end; where it does not arrive, the run's deadline closes the slot.
        """
        message = DeclineMessage(detail=why[:_LONGEST_DETAIL])
        with contextlib.suppress(*_UNHEARD, *_ENDS_TALK, ProblemError):
            self._transfer.call("POST", f"/v1/tasks/{task}/decline", None, message, once=True)

    def _miss(self, task: str, error: ProblemError) -> None:
        """What a task needs is gone: its exchange was closed meanwhile, and the next one is asked for. Raises the error
        where the same task is offered again and again.
        """
        times = self._missed[1] + 1 if self._missed[0] == task else 1
        self._missed = task, times
        if times == _TIMES_MISSED:
            raise error
        self._say(f"too late for a task: {error}")
        if times > 1:
            self._transfer.pause(times, str(error))

    def _despite_disk(self, work: Callable[[], ResultT]) -> ResultT:
        """What the work returns, begun again until this client's own disk has room for what it keeps.

        Raises: `OSError` of what does not pass by itself.
        """
        tries = 0
        while True:
            try:
                return work()
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                tries += 1
                if tries in (1, 5) or tries % 20 == 0:
                    self._say(f"this client's disk: {error.strerror}: {error.filename}; trying again")
                self._transfer.sleep(min(_LONGEST_DISK_PAUSE_S, 0.5 * 2 ** min(tries - 1, 20)))

    def _hold(self, size: int = 0) -> None:
        """Waits until the user lets so many bytes cross. Raises: `OverBudgetError`."""
        if self._care is not None:
            self._care.hold(size)

    # -- registering ------------------------------------------------------------------------------------------

    def _register(self) -> TaskMessage | None:
        """The next task; None where the wait ended without one."""
        held = {memory.run: memory.state.held for memory in self._folder.runs() if memory.state.held is not None}
        message = Registration(spec=self._spec, holds=dict(list(held.items())[-16:]) or None)
        begun = self._now_s()
        tries = broken = 0
        while True:
            self._hold()
            poll_s = self._poll_s if self._care is None else self._care.poll_s(self._poll_s)
            path = f"/v1/registrations?wait_s={poll_s}{self._without_inline}"
            try:
                _, task, reply = self._transfer.call("POST", path, TaskMessage, message, patient_s=poll_s, once=True)
            except _UNHEARD as error:
                waited = self._now_s() - begun
                if _SHORTEST_POLL_S <= waited < poll_s:
                    # Something on the way does not like idle connections.
                    self._poll_s = max(_SHORTEST_POLL_S, self._poll_s // 2)
                    return None
                tries += 1
                broken += broke(error)
                self._inline = self._inline and broken < _BREAKS
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
                    early = self._now_s() - begun < min(1, poll_s)
                    self._transfer.sleep(reply.retry_after_s or float(early))
                return task

    # -- answering --------------------------------------------------------------------------------------------

    def _deliver(self, memory: RunMemory, task: str) -> TaskMessage | None:
        """Offers the outcome of this task until it has a verdict; promotes a memory; returns the next task, if any."""
        outcome = memory.outcome(task)
        if outcome is None:
            return None
        self._hold(len(outcome.payload or b""))
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
        """The verdict. An answer that may have arrived, before a crash or a broken connection, is asked about before
        anything is sent again: its exchange may be closed, and its upload gone, because it has been counted.
        """
        uploaded = memory.state.upload if memory.state.staged == outcome.task else None
        while True:
            inside = outcome.payload is None or (self._inline and len(outcome.payload) <= MAX_INLINE_BYTES)
            if not inside and uploaded is None:
                uploaded = self._upload(memory, outcome)
            message = AnswerMessage(
                examples=outcome.examples,
                metrics=dict(outcome.metrics),
                payload=outcome.payload if inside else None,
                upload=None if inside else uploaded,
                link=link,
            )
            path = f"/v1/tasks/{outcome.task}/answer" + self._without_inline.replace("&", "?")
            try:
                status, verdict, reply = self._ask_verdict(path, message)
                while status == 202 or verdict is None:
                    self._transfer.sleep(reply.retry_after_s or 1.0)
                    status, verdict, reply = self._ask_verdict(path, message)
            except BrokenError as error:
                self._say(f"{error}; from now on payloads travel by themselves")
                self._inline, uploaded = False, _NO_UPLOAD
            except ProblemError as error:
                if error.reason not in _RESENT or inside:
                    raise
                if error.reason != "upload-incomplete":
                    memory.remember_upload(None)
                uploaded = None
            else:
                return verdict

    def _ask_verdict(self, path: str, message: AnswerMessage) -> tuple[int, VerdictMessage | None, Reply]:
        breaks = _BREAKS if self._inline else None
        return self._transfer.call("POST", path, VerdictMessage, message, unless=_RESENT, breaks=breaks)

    @property
    def _without_inline(self) -> str:
        """In a query that has begun: that no payload is to travel inside a message."""
        return "" if self._inline else "&inline=0"

    def _upload(self, memory: RunMemory, outcome: StagedOutcome) -> str:
        known = memory.state.upload if memory.state.staged == outcome.task else None
        assert outcome.payload is not None  # noqa: S101
        return upload(self._transfer, outcome.task, outcome.payload, known=known, remember=memory.remember_upload)


def enrol(transfer: Transfer, folder: Folder, invite: str | None, name: str | None) -> Credentials:
    """The credentials of this folder, from an invite where there are none yet.

    Raises: `ProblemError` (`invite-invalid`, `name-taken`), `LookupError` where an invite is needed.
    """
    try:
        found = folder.credentials()
    except TornRecordError as error:
        raise LookupError(
            f"the credentials are damaged: {error}. Restore the file; or delete it and enrol under a new name with a "
            "new invite, and let the operator revoke the old name"
        ) from None
    if found is not None and found.coordinator != transfer.address:
        raise LookupError(f"the data folder belongs to a client of {found.coordinator}; take another --data-dir")
    if found is None:
        if not invite:
            raise LookupError("this client has not enrolled; give an invite: --invite-file FILE, or THINWIRE_INVITE")
        _, enrolled, _ = transfer.call(
            "POST", "/v1/clients", Enrolled, Enrolment(invite=invite, name=name or folder.name())
        )
        assert enrolled is not None  # noqa: S101
        found = Credentials(transfer.address, enrolled.client, enrolled.token)
        folder.keep_credentials(found)
    transfer.use_token(found.token)
    return found
