"""The agent: asks for tasks, performs, stages, answers, and remembers what the verdict says."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from thinwire.codecs import CodecError
from thinwire.methods.values import TaskPassedError, TaskRefusedError
from thinwire.protocol.encoding import spec_digest
from thinwire.protocol.messages import TaskMessage
from thinwire.protocol.reasons import ProblemError

from .console import Say
from .conversation import ENDS_TALK, Conversation
from .diary import Diary, bring
from .learner import BrokenModelError, Turns
from .limits import Limits, TaskTooLargeError, TaskTooLongError, within_memory
from .link.care import Care
from .link.polling import SHORTEST_POLL_S
from .link.replies import FinishedError
from .link.transfer import Transfer
from .memory.disk import despite_disk
from .memory.folder import Folder
from .memory.records import TornRecordError
from .memory.runs import RunMemory
from .performer import Performer
from .receiving import PartsLostError
from .standing import Standing

_LONGEST_PAUSE_S: Final = 300.0
_REFUSALS: Final = ("answer-invalid", "payload-invalid", "upload-too-large", "task-not-found")
_GONE: Final = ("payload-not-found", "plan-not-found", "digest-mismatch")
"""What a task needs is no longer kept, or arrives wrong."""
_DECLINED: Final = (TaskRefusedError, TaskPassedError, TaskTooLongError, TaskTooLargeError, BrokenModelError)
_TIMES_MISSED: Final = 5
ResultT = TypeVar("ResultT")


class Agent:
    """One client of one coordinator. `now_s`, `own_first`, `threads`: as for `Performer`; `process`, `start`: as for
    `Conversation`. `diary`: what it has said, where its coordinator is to be told.
    """

    def __init__(
        self,
        transfer: Transfer,
        folder: Folder,
        learner: Turns,
        *,
        say: Say,
        limits: Limits | None = None,
        care: Care | None = None,
        now_s: Callable[[], float] = time.monotonic,
        own_first: bool = True,
        process: str | None = None,
        start: int | None = None,
        threads: int = 1,
        diary: Diary | None = None,
        standing: Standing | None = None,
    ) -> None:
        self._standing = standing or Standing()
        self._transfer = transfer
        self._folder = folder
        self._say = say
        self._diary = diary
        self._conversation = Conversation(
            transfer, folder, spec_digest(learner.spec), say=say, care=care, now_s=now_s, process=process, start=start
        )
        self._performer = Performer(
            self._conversation.fetch,
            folder,
            learner,
            say=say,
            limits=limits or Limits(),
            now_s=now_s,
            own_first=own_first,
            threads=threads,
        )
        self._forever = False
        self._missed = "", 0
        self._refused_plans: dict[bytes, str] = {}

    def serve(self, *, forever: bool = False) -> FinishedError:
        """Works until all runs this client could serve are over; `forever`: and goes on to wait for new ones, and for
        others in the place of one that it cannot serve.

        Returns how it ended. Raises: what `Conversation` and `check_plan` raise, `TaskTooLongError`,
        `TaskTooLargeError`, `CodecError`.
        """
        self._forever = forever
        for memory in self._folder.runs():
            if memory.state.staged is not None:
                self._say("offering again the answer staged before")
                self._work_on(self._despite_disk(partial(self._deliver, memory, memory.state.staged, again=True)))
        ended: FinishedError | None = None
        pause_s = float(SHORTEST_POLL_S)
        while ended is None or forever:
            try:
                self._standing.does("waiting")
                self._work_on(self._conversation.ask())
                pause_s = float(SHORTEST_POLL_S)
            except FinishedError as finished:
                if ended is None:
                    self._say("all runs are over" + ("; waiting for new ones" if forever else ""))
                ended = finished
                if forever:
                    # Nobody holds the line for a client without a run; asking often would cost more than a poll does.
                    self._transfer.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return ended

    def report(self, *, failed: bool) -> None:
        """Tells the coordinator what was said, where the person at the device lets it. `failed`: something has."""
        credentials = self._folder.credentials()
        if self._diary is None or credentials is None:
            return
        lines = self._diary.packed(failed=failed)
        if lines is not None and bring(self._transfer, credentials.client, lines):
            self._diary.arrived()

    def _work_on(self, task: TaskMessage | None) -> None:
        while task is not None:
            memory = self._folder.run(task.run)
            if task.dropped is not None and self._despite_disk(partial(memory.take_back, task.dropped)):
                self._say("the coordinator dropped the last answer; what it had changed is forgotten")
            again = memory.outcome(task.task) is not None
            if not again and not self._perform(task, memory):
                return
            task = self._despite_disk(partial(self._deliver, memory, task.task, task.plan, again=again))

    def _perform(self, task: TaskMessage, memory: RunMemory) -> bool:
        """Whether the task has an outcome now, staged; False where another one is to be asked for."""
        try:
            self._standing.does("working", run=task.run, round_=task.round)
            if task.plan in self._refused_plans:
                raise TaskRefusedError("run-invalid", self._refused_plans[task.plan])
            self._conversation.hold(sum(part.size or 0 for part in task.parts))
            work = partial(within_memory, partial(self._performer.perform, task, memory))
            outcome = self._despite_disk(work)
            self._despite_disk(partial(memory.stage, outcome))
        except (*_DECLINED, CodecError) as error:
            self._conversation.decline(task.task, str(error))
            # A model that somebody else has broken is no fault of this client's: the next one may be whole.
            if not self._forever and not isinstance(error, (TaskPassedError, BrokenModelError)):
                raise
            self._pass_over(task, error)
            return False
        except PartsLostError:
            self._say("the parts held are damaged; asking for whole ones")
            memory.forget_parts()
            return False
        except ProblemError as error:
            if error.reason not in _GONE:
                raise
            self._miss(task, error)
            return False
        except (OSError, TornRecordError, *ENDS_TALK):
            raise
        except Exception as error:
            # A defect of the user's task or of ours: its words may hold data, which stay here.
            self._conversation.decline(task.task, type(error).__name__)
            raise
        return True

    def _miss(self, task: TaskMessage, error: ProblemError) -> None:
        """What a task needs is gone: its exchange was closed meanwhile, and the next one is asked for. Raises the error
        where the same task is offered again and again.
        """
        times = self._times_missed(task)
        if times >= _TIMES_MISSED and not self._forever:
            raise error
        self._say(f"too late for a task: {error}")
        if times > 1:
            self._transfer.pause(times, str(error))

    def _pass_over(self, task: TaskMessage, error: Exception) -> None:
        """Another task is asked for; one of a plan that was refused is given up at once from now on."""
        if isinstance(error, TaskRefusedError) and task.plan not in self._refused_plans:
            self._refused_plans[task.plan] = str(error)
            self._say(f"declined run {task.run}: {error}; waiting for others")
        elif not isinstance(error, TaskRefusedError):
            self._say(f"declined a task: {error}")
        self.report(failed=True)
        times = self._times_missed(task)
        if times > 1:
            self._transfer.pause(times, str(error))

    def _times_missed(self, task: TaskMessage) -> int:
        self._missed = task.task, self._missed[1] + 1 if self._missed[0] == task.task else 1
        return self._missed[1]

    def _deliver(
        self, memory: RunMemory, task: str, plan: bytes | None = None, *, again: bool = False
    ) -> TaskMessage | None:
        """Offers the outcome of this task until it has a verdict; promotes a memory; returns the next task, if any.
        `plan`: of the task, where this process has seen it; `again`: it may have been offered before.
        """
        outcome = memory.outcome(task)
        if outcome is None:
            return None
        self._standing.does("answering", run=memory.run, round_=self._standing.status.round)
        try:
            verdict = self._conversation.answer(memory, outcome, plan, again=again)
        except ProblemError as error:
            if error.reason not in _REFUSALS:
                raise
            memory.decide(task, "refused")
            self._say(f"refused: {error}")
            self.report(failed=True)
            return None
        memory.decide(task, "accepted" if verdict.verdict in ("accepted", "duplicate") else "refused")
        if verdict.verdict == "accepted":
            self._standing.accepted()
        else:
            self._say(f"{verdict.verdict}" + (f": {verdict.detail}" if verdict.detail else ""))
        self.report(failed=verdict.verdict == "refused")
        return verdict.next

    def _despite_disk(self, work: Callable[[], ResultT]) -> ResultT:
        return despite_disk(work, say=self._say, sleep=self._transfer.sleep)
