"""Trials: runs that a process beside this one plays, and a journal of what came of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from thinwire.protocol.trials import TrialExchange, TrialPlace, TrialRequest, TrialResult

from .lab import EDGE_CLIENT

_GRACE_S: Final = 10.0


class TrialsFailedError(Exception):
    """The process that plays runs has ended; the text ends with what it said. `code`: its exit code."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said.strip() or f"the process that plays runs ended with code {code}")
        self.code = code


class Trials:
    """`options`: of `thinwire-client simulate`; `journal`: the file that remembers what was played, of this task and
    these options alone; None: nothing does. A trial that it holds is not played again. `environment`: of the process,
    beside this one's.

    Raises: `TrialsFailedError`, `OSError`.
    """

    def __init__(
        self, options: Sequence[str], journal: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._options = list(options)
        self._environment = environment or {}
        self._journal = journal
        self._known: dict[str, TrialResult] = {}
        self.place: TrialPlace | None = None
        self._read()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.communicate(timeout=_GRACE_S)

    @property
    def spent_s(self) -> float:
        """Seconds of all trials, those of earlier starts too."""
        return sum(result.seconds for result in self._known.values())

    def known(self, request: TrialRequest) -> TrialResult | None:
        """What the journal holds of it."""
        return self._known.get(_key(request))

    def begin(self) -> TrialPlace:
        """What is learnt, and by whom; the process is there from now on."""
        if self._process is None:
            arguments = [sys.executable, "-m", EDGE_CLIENT, "simulate", *self._options]
            self._process = subprocess.Popen(  # noqa: S603
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, **self._environment},
            )  # fmt: skip
            self.place = TrialPlace.model_validate_json(self._reply())
        assert self.place is not None  # noqa: S101
        return self.place

    def play(self, request: TrialRequest) -> TrialResult:
        """What comes of this run."""
        key = _key(request)
        if key not in self._known:
            result = self._played(request, lambda _: None)
            if self._journal is not None:
                with self._journal.open("a") as file:
                    file.write(json.dumps([key, result.model_dump()]) + "\n")
            self._known[key] = result
        return self._known[key]

    def follow(self, request: TrialRequest, told: Callable[[TrialExchange], None]) -> TrialResult:
        """What comes of this run, of which each exchange is told when it is over; played anew, and not remembered."""
        return self._played(request.model_copy(update={"follow": True}), told)

    def _played(self, request: TrialRequest, told: Callable[[TrialExchange], None]) -> TrialResult:
        self.begin()
        assert self._process is not None  # noqa: S101
        assert self._process.stdin is not None  # noqa: S101
        try:
            self._process.stdin.write(_key(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is told by what it does not reply
        while "outcome" not in (line := json.loads(self._reply())):
            told(TrialExchange.model_validate(line))
        return TrialResult.model_validate(line)

    def _reply(self) -> str:
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        if line.endswith("\n"):
            return line
        _, said = self._process.communicate()
        code = self._process.returncode
        self._process = None
        raise TrialsFailedError(code, said)

    def _read(self) -> None:
        """The journal; one of another task begins anew, and a last line that a kill has cut is left out."""
        if self._journal is None:
            return
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        head = json.dumps([*self._options, *(f"{name}={value}" for name, value in self._environment.items())])
        if not lines or lines[0] != head:
            self._journal.write_text(head + "\n")
            return
        whole = [head]
        for line in lines[1:]:
            try:
                key, result = json.loads(line)
                self._known[key] = TrialResult.model_validate(result)
            except (ValueError, TypeError, ValidationError):
                continue
            whole.append(line)
        self._journal.write_text("\n".join(whole) + "\n")


def _key(request: TrialRequest) -> str:
    return request.model_dump_json(exclude_defaults=True)
