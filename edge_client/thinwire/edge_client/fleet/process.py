"""One process of a fleet: a thread for each of its clients, which talks, and one learner at a time, which works."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import ssl
import threading
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Final

import torch

from thinwire.codecs import CodecError, Spec
from thinwire.edge_client.agent import Agent
from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.enrolment import enrol
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.link.emulated import Pacer
from thinwire.edge_client.link.replies import BadPeerError
from thinwire.edge_client.link.sockets import CountingBackend, UntrustedError
from thinwire.edge_client.link.transfer import Patience, Transfer, UnreachableError
from thinwire.edge_client.memory.folder import Folder, FolderInUseError
from thinwire.edge_client.memory.records import TornRecordError
from thinwire.edge_client.problems.problem_file import LearningProblem, ProblemFileError
from thinwire.edge_client.settings import UsageError
from thinwire.machine.link_rates import parse_link
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.reasons import ProblemError

from .availability import Availability, AwayError, Spells
from .board import Board
from .settings import FleetSettings
from .shared_learner import SharedLearners

_STACK_BYTES: Final = 4 << 20
"""Of a thread: reserved, and used as far as training needs it."""
_TOLD_EVERY_S: Final = 0.5
_JOINING: Final = 16
"""Clients of one process that enrol at the same time."""
_ENDS: Final = (
    BadPeerError, CodecError, FolderInUseError, OSError, ProblemError, ProblemFileError, TaskRefusedError,
    TornRecordError, UnreachableError, UntrustedError, UsageError,
)  # fmt: skip


class FleetProcess:
    """`members`: the numbers of its clients. `began`: when the fleet did, on this machine's monotonic clock. `links`,
    `trace`: of each client by its number, where it has one.
    """

    def __init__(
        self,
        url: str,
        options: FleetSettings,
        problem: LearningProblem,
        spec: Spec,
        folder: Path,
        invite: str | None,
        members: Sequence[int],
        *,
        began: float,
        links: Sequence[str],
        trace: dict[int, Spells],
    ) -> None:
        self._url = url
        self._options = options
        self._spec = spec
        self._folder = folder
        self._invite = invite
        self._began = began
        self._links = links
        self._trace = trace
        self._names = options.names()
        self._members = members
        self._board = Board(self._names[index] for index in members)
        self._learners = SharedLearners(
            lambda client, like: Learner(problem, client, device=options.device, allow=options.allow, like=like),
            options.at_once,
        )
        self._tls = ssl.create_default_context(cafile=options.ca_file)
        self._joining = threading.BoundedSemaphore(_JOINING)
        self._backends = {index: CountingBackend(self._pacer(index)) for index in members}

    def run(self, told: Connection, ends: Sequence[Connection]) -> None:
        """To the end of all its clients, or of whom `told` tells how they stand, again and again, and at the end.
        `ends`: the listener's, which came along with the fork.
        """
        for end in ends:
            # Held open here, it would seem that somebody still listens.
            end.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        torch.set_num_threads(1)
        torch.set_deterministic_debug_mode("warn")
        threading.stack_size(_STACK_BYTES)
        threads = [threading.Thread(target=self._live, args=(index,), daemon=True) for index in self._members]
        for thread in threads:
            thread.start()
        # Nobody is left to see it: every folder stands as a kill would find it, too.
        with contextlib.suppress(BrokenPipeError):
            for thread in threads:
                while thread.is_alive():
                    thread.join(_TOLD_EVERY_S)
                    self._tell(told)
            self._tell(told)

    def _tell(self, told: Connection) -> None:
        counts = [backend.process for backend in self._backends.values()]
        told.send(self._board.snapshot(sum(one.sent for one in counts), sum(one.received for one in counts)))

    def _pacer(self, index: int) -> Pacer | None:
        if not self._links:
            return None
        seed = hashlib.sha256(f"{self._options.seed}/{self._names[index]}".encode()).digest()
        return Pacer(parse_link(self._links[index]), Random(seed))  # noqa: S311

    def _live(self, index: int) -> None:
        name = self._names[index]
        try:
            self._serve(index, name)
        except AwayError:
            self._board.set(name, "left")
        except _ENDS as error:
            self._board.fail(name, str(error) or type(error).__name__)
        except Exception as error:
            self._board.fail(name, f"{type(error).__name__}: {error}")
        else:
            self._board.set(name, "finished")

    def _serve(self, index: int, name: str) -> None:
        options, backend = self._options, self._backends[index]
        folder = Folder(self._folder / name)
        before = folder.link()
        transfer = Transfer(
            self._url, backend, rng=Random(name), say=_unheard,  # noqa: S311
            patience=Patience(give_up_after_s=options.give_up_after_s), tls=self._tls,
        )  # fmt: skip
        try:
            care = None
            if index in self._trace:
                care = Availability(
                    self._trace[index], lambda: time.monotonic() - self._began, time.sleep, transfer.hang_up,
                    lambda away: self._board.set(name, "away" if away else "waiting"),
                )  # fmt: skip
                care.hold()
            with self._joining:
                enrol(transfer, folder, self._invite, name)
            self._board.set(name, "waiting")
            client = ClientInfo(name, index, options.clients, options.seed, options.split)
            tell = partial(self._at_a_task, name)
            turns = self._learners.of(client, self._spec, tell)
            Agent(transfer, folder, turns, say=_unheard, care=care).serve()
        finally:
            kernel = backend.kernel()
            folder.keep_link(before[0] + kernel.sent, before[1] + kernel.received)
            transfer.close()
            folder.close()

    def _at_a_task(self, name: str, working: bool) -> None:
        self._board.set(name, "working" if working else "waiting")


def _unheard(_: str) -> None:
    """A thousand clients tell nobody of every round: what ends one of them is told."""
