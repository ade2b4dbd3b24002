"""The clients of a run in several processes of this machine, so that several of them train at the same time."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from types import TracebackType
from typing import Final, Self

from thinwire.codecs import CodecError
from thinwire.methods.simulated_clients import Answered, Clients, Participant, Sent
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from .problems.problem_file import ProblemFileError

_GRACE_S: Final = 10.0
Slots = list[tuple[int, str]]


class ForkedClients:
    """As `thinwire.methods.simulated_clients.Crew`. The processes are forked, so that examples and the libraries are
    there once; what the participants come to remember stays in them. A participant answers as it would in this process.

    Raises, from `exchange`: what answering raises.
    """

    def __init__(self, run: RunSettings, participants: Mapping[str, Participant], processes: int) -> None:
        context = multiprocessing.get_context("fork")
        self._processes: list[ForkProcess] = []
        self._lines: list[Connection] = []
        self._owner: dict[str, int] = {}
        for number in range(processes):
            names = list(participants)[number::processes]
            self._owner |= dict.fromkeys(names, number)
            here, there = context.Pipe()
            self._lines.append(here)
            clients = Clients(run, {name: participants[name] for name in names})
            process = context.Process(target=_serve, args=(clients, there, list(self._lines)), daemon=True)
            process.start()
            there.close()
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for line in self._lines:
            line.close()
        for process in self._processes:
            process.kill()
            process.join(_GRACE_S)

    def exchange(self, sent: Sent, cohort: Sequence[str]) -> Iterator[Answered]:
        """The answers of these clients, as they come."""
        slots: dict[int, Slots] = {}
        for slot, name in enumerate(cohort):
            slots.setdefault(self._owner[name], []).append((slot, name))
        working = []
        for number, mine in slots.items():
            # Each reads all of it before it answers, so nobody waits for somebody who waits.
            self._lines[number].send((sent, mine))
            working.append(self._lines[number])
        while working:
            for line in [one for one in wait(working) if isinstance(one, Connection)]:
                found = line.recv()
                if isinstance(found, Answered):
                    yield found
                elif found is None:
                    working.remove(line)
                else:
                    raise found


def _serve(clients: Clients, line: Connection, ends: Sequence[Connection]) -> None:
    """In a process of its own: answers, and a None behind those of each exchange."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for end in ends:
        end.close()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            sent, slots = line.recv()
            try:
                for answered in clients.answers(sent, slots):
                    line.send(answered)
            except Exception as error:
                line.send(_told(error))
            else:
                line.send(None)


def _told(error: Exception) -> Exception:
    """The error as it can be handed on: ours as they are, and of others what they say."""
    ours = isinstance(error, (CodecError, ProblemError, ProblemFileError, TaskRefusedError))
    return error if ours else RuntimeError(f"{type(error).__name__}: {error}")
