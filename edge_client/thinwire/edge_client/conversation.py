"""What a client and its coordinator say to each other: a task asked for, what it needs fetched, an answer given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Final, TypeVar
from urllib.parse import urlencode

from thinwire.protocol.identity import digest_of
from thinwire.protocol.messages import (
    MAX_INLINE_BYTES,
    AnswerMessage,
    DeclineMessage,
    Registration,
    TaskMessage,
    VerdictMessage,
)
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.short import Known

from .console import Say
from .link.care import Care
from .link.polling import PollLength, was_held
from .link.replies import BadPeerError, FinishedError, Reply, StrangerError, TooLargeError
from .link.resumable import download, upload
from .link.sockets import UntrustedError
from .link.transfer import UNHEARD, BrokenError, Transfer, UnreachableError
from .memory.folder import Folder
from .memory.runs import RunMemory, StagedOutcome

ENDS_TALK: Final = (UnreachableError, BadPeerError, UntrustedError, FinishedError)
_BREAKS: Final = 3
"""A message with a payload inside that breaks off so often is too long for this link."""
_RESENT: Final = ("upload-not-found", "upload-incomplete", "digest-mismatch")
"""What is wrong with an upload that sending its bytes mends."""
_UNHEARD_OF: Final = ("answer-not-found", "bad-message")
"""To a question what became of an answer sent before; the latter of a coordinator of before there were such questions.
"""
_LONGEST_DETAIL: Final = 300
_MOST_HELD: Final = 16
_LONGEST_VERSION: Final = 32
"""Who answers after so long, in whatever words, or hangs up, has held a poll and not refused one."""

ResultT = TypeVar("ResultT")


class _TooLongError(BrokenError):
    """Something on the way lets no message of this length through."""


class Conversation:
    """One client's with one coordinator. Whatever it says is repeated by one policy, `Transfer.persist`.

    `spec`: the digest of the client's model spec. `process`: what this process calls itself, None for nothing; `start`:
    which one of its folder's it is, None where nobody knows.
    `now_s`: seconds that only differences are taken of. Raises, from every call: what `Transfer` raises;
    `OverBudgetError`.
    """

    def __init__(
        self,
        transfer: Transfer,
        folder: Folder,
        spec: bytes,
        *,
        say: Say,
        care: Care | None,
        now_s: Callable[[], float],
        process: str | None = None,
        start: int | None = None,
    ) -> None:
        self._transfer = transfer
        self._folder = folder
        self._spec = spec
        self._process, self._start = process, start
        self._say = say
        self._care = care
        self._now_s = now_s
        self._polls = PollLength()
        self._inline = True
        self._short, self._proven = True, False
        self._software: str | None = version("thinwire")[:_LONGEST_VERSION]
        self._link_before = folder.link()
        found = folder.credentials()
        self._link_at_first = (0, 0) if found is None else found.link

    def hold(self, size: int = 0) -> None:
        """Waits until the user lets so many bytes cross. Raises: `OverBudgetError`."""
        if self._care is not None:
            self._care.hold(size)

    def ask(self) -> TaskMessage | None:
        """The next task; None where the wait for one ended without it."""
        held = {memory.run: memory.state.held for memory in self._folder.runs() if memory.state.held is not None}
        holds = dict(list(held.items())[-_MOST_HELD:]) or None
        message = Registration(
            spec=self._spec, holds=holds, process=self._process, start=self._start, software=self._software
        )
        while True:
            try:
                task = self._transfer.persist(lambda: self._poll(message), breaks=_BREAKS if self._inline else None)
            except BrokenError as error:
                self._payloads_apart(str(error))
            else:
                # A poll that somebody on the way has ended may never have arrived.
                if task is not None:
                    self._start = self._software = None
                return task

    def fetch(self, digest: bytes, size: int | None, *, most: int = 1 << 36, kind: str = "payloads") -> bytes:
        """As `download`."""
        return download(self._transfer, digest, size, self._folder.partial, most=most, kind=kind)

    def answer(
        self, memory: RunMemory, outcome: StagedOutcome, plan: bytes | None = None, *, again: bool = False
    ) -> VerdictMessage:
        """The verdict, and the next task where it opens while the connection rests, as in a poll. `plan`: of the task,
        where it is known, so that the next one need not name it. An answer that may have arrived, before a crash
        (`again`) or a broken connection, is asked about before anything is sent again: its exchange may be closed, and
        its upload gone, because it has been counted.
        """
        payload = outcome.payload
        self.hold(len(payload or b""))
        bare = AnswerMessage(examples=outcome.examples, metrics=dict(outcome.metrics))
        named = bare if payload is None else bare.model_copy(update={"received": digest_of(payload)})
        shared = None if plan is None else {"run": memory.run, "plan": plan}
        known = memory.state.upload if memory.state.staged == outcome.task else None
        asks, broken = again and payload is not None, 0
        while True:
            apart = payload is not None and not (self._inline and len(payload) <= MAX_INLINE_BYTES)
            if apart and known is None and not asks:
                known = self._upload(memory, outcome.task, payload or b"")
            if apart and known is not None:
                message = bare.model_copy(update={"upload": known})
            else:
                message = named if asks else bare.model_copy(update={"payload": payload})
            # What was sent of it before has been counted by both.
            link = {"link": self._told_link()}
            try:
                return self._verdict(
                    outcome.task, message.model_copy(update=link), named.model_copy(update=link), shared
                )
            except BrokenError as error:
                broken += 1
                asks = payload is not None
                if message.payload is None or broken == _BREAKS or isinstance(error, _TooLongError):
                    self._payloads_apart(str(error))
                else:
                    self._transfer.pause(broken, str(error))
            except ProblemError as error:
                if message.received is not None and error.reason in _UNHEARD_OF:
                    asks = False
                elif apart and error.reason in _RESENT:
                    if error.reason != "upload-incomplete":
                        memory.remember_upload(None)
                    known, asks = None, False
                else:
                    raise

    def decline(self, task: str, why: str) -> None:
        """Gives a task up that this client cannot do, so that nobody waits for it. Tried once: the client is about to
        end; where it does not arrive, the run's deadline closes the slot.
        """
        message = DeclineMessage(detail=why[:_LONGEST_DETAIL])
        with contextlib.suppress(*UNHEARD, *ENDS_TALK, ProblemError):
            self._transfer.ask("POST", f"/v1/tasks/{task}/decline", None, message)

    def _poll(self, message: Registration) -> TaskMessage | None:
        self.hold()
        poll_s = self._poll_s()
        begun = self._now_s()

        def attempt(short: Known | None) -> tuple[int, TaskMessage | None, Reply]:
            path = self._path("/v1/registrations" if short is None else "/v1/r", wait_s=poll_s)
            return self._transfer.ask("POST", path, TaskMessage, message, patient_s=poll_s, short=short)

        try:
            _, task, reply = self._shortly(attempt, {})
        except (*UNHEARD, StrangerError, ProblemError) as error:
            lived_s = min(self._now_s() - begun, poll_s)
            if not was_held(error, lived_s, known=self._transfer.known):
                raise
            # Something on the way does not like idle connections.
            self._polls.lost(lived_s)
            self._transfer.unheard(str(error))
            return None
        if task is None:
            self._held(poll_s, self._now_s() - begun)
            # Also where nothing is said, so that two processes with one name do not chase each other.
            early = self._now_s() - begun < min(1, poll_s)
            self._transfer.sleep(reply.retry_after_s or float(early))
        return task

    def _poll_s(self) -> int:
        """How long the next request may rest."""
        self._transfer.backend.keepalive_s = self._polls.keepalive_s
        return self._polls.seconds if self._care is None else self._care.poll_s(self._polls.seconds)

    def _held(self, poll_s: int, lived_s: float) -> None:
        """A request that might rest so long came back without a task."""
        if poll_s == self._polls.seconds and lived_s >= poll_s - 1:
            self._polls.held()

    def _shortly(self, attempt: Callable[[Known | None], ResultT], known: Known | None) -> ResultT:
        """In the short form, with what both ends know; in the long one where nothing is known, or where the
        coordinator, or something on the way, does not know the paths of the short one.
        """
        if self._short and known is not None:
            try:
                result = attempt(known)
            except ProblemError as error:
                if error.reason != "not-found":
                    raise
            except StrangerError:
                if self._proven:
                    raise
            else:
                self._proven = True
                return result
            self._short = False
        return attempt(None)

    def _verdict(self, task: str, message: AnswerMessage, named: AnswerMessage, known: Known | None) -> VerdictMessage:
        """`named`: the same without its payload, which crosses once, however long it is checked. `known`: of the next
        task, if it is of the same kind. Raises: `BrokenError`,
        at once where a payload may have crossed; `ProblemError` also of what is mended by sending the bytes again.
        """

        def ask(wait_s: int, short: Known | None) -> tuple[int, VerdictMessage | None, Reply]:
            path = self._path(f"/v1/tasks/{task}/answer" if short is None else f"/v1/a/{task}", wait_s=wait_s)
            return self._transfer.ask("POST", path, VerdictMessage, message, patient_s=wait_s, short=short)

        def attempt() -> tuple[int, VerdictMessage | None, Reply]:
            wait_s, begun = self._poll_s(), self._now_s()
            try:
                found = self._shortly(partial(ask, wait_s), known)
                if found[1] is not None and found[1].next is None:
                    self._held(wait_s, self._now_s() - begun)
                return found
            except UNHEARD as error:
                # With a payload, it may be the payload that was cut.
                lived_s = min(self._now_s() - begun, wait_s)
                if message.payload is None and was_held(error, lived_s, known=self._transfer.known):
                    self._polls.lost(lived_s)
                raise
            except ProblemError as error:
                if message.payload is None or error.reason != "unavailable":
                    raise
                raise BrokenError(str(error)) from None  # a proxy, perhaps, that has waited for long enough
            except TooLargeError as error:
                if message.payload is None:
                    raise
                raise _TooLongError(str(error)) from None

        while True:
            breaks = None if not self._inline else _BREAKS if message.payload is None else 1
            status, verdict, reply = self._transfer.persist(attempt, unless=_RESENT, breaks=breaks)
            if status != 202 and verdict is not None:
                return verdict
            if message.payload is not None:
                message = named
            self._transfer.sleep(reply.retry_after_s or 1.0)

    def _upload(self, memory: RunMemory, task: str, payload: bytes) -> str:
        known = memory.state.upload if memory.state.staged == task else None
        return upload(self._transfer, task, payload, known=known, remember=memory.remember_upload)

    def _payloads_apart(self, why: str) -> None:
        self._say(f"{why}; from now on payloads travel by themselves")
        self._inline = False

    def _path(self, path: str, **query: int) -> str:
        """With its query, which says where no payload is to travel inside a message."""
        asked = query if self._inline else {**query, "inline": 0}
        return f"{path}?{urlencode(asked)}" if asked else path

    def _told_link(self) -> tuple[int, int]:
        """Cumulative bytes sent and received as the kernel counts them, over all processes of this client's folder,
        since it has its credentials; what the folder has in all is kept in it.
        """
        counts = self._transfer.backend.kernel()
        sent, received = self._link_before[0] + counts.sent, self._link_before[1] + counts.received
        self._folder.keep_link(sent, received)
        return sent - self._link_at_first[0], received - self._link_at_first[1]
