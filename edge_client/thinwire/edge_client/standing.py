"""What a client does now, for whoever looks: a file in its folder, the service manager, and its watchdog.

None of it is the work: where the file cannot be written, or nobody listens, the work goes on.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from thinwire.machine.files import write_atomic
from thinwire.machine.quantities import in_bytes
from thinwire.machine.supervision import Pulse, Supervisor

STATUS_FILE: Final = "status.json"
GRACE_S: Final = 600.0
"""For what has no limit of its own: decoding a large model on a small device, a slow disk."""
State = Literal["starting", "waiting", "working", "answering", "ended"]
_WORDS: Final[dict[State, str]] = {
    "starting": "loads its task and tries it",
    "waiting": "waits for a task",
    "working": "works on a task",
    "answering": "gives its answer, and waits for what follows",
    "ended": "has ended",
}


class Status(BaseModel):
    """The file. Times are seconds since the epoch, by this device's clock; bytes are those of all processes so far.

    `hindered`: what it waits for meanwhile, "" where nothing is in its way; `today`: bytes of this local day where they
    are limited; `answers`: accepted of this process; `written_at`: counts are as of then.
    """

    model_config = ConfigDict(frozen=True)

    state: State = "starting"
    since: float = 0.0
    hindered: str = ""
    hindered_since: float | None = None
    client: str = ""
    coordinator: str = ""
    run: str = ""
    round: int | None = None
    answers: int = 0
    last_answer_at: float | None = None
    sent: int = 0
    received: int = 0
    today: int | None = None
    pid: int = 0
    started_at: float = 0.0
    written_at: float = 0.0
    version: str = ""

    @property
    def said(self) -> str:
        """In one line."""
        task = f" of {self.run}, round {self.round}" if self.run and self.round is not None else ""
        hindrance = f"; {self.hindered}" if self.hindered else ""
        return f"{_WORDS[self.state]}{task}{hindrance}"


class Standing:
    """`path`: of the file, None for none. `counted`: bytes sent and received so far; `today`: those of this day."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        supervisor: Supervisor | None = None,
        counted: Callable[[], tuple[int, int]] = lambda: (0, 0),
        today: Callable[[], int | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._supervisor = supervisor or Supervisor()
        self._pulse = Pulse(lambda: self._supervisor.tell(WATCHDOG="1"))
        self._counted = counted
        self._today = today
        self._clock = clock
        now = clock()
        self.status = Status(since=now, started_at=now, pid=os.getpid(), version=version("thinwire"))
        self._tell()

    def ready(self, coordinator: str) -> None:
        """All that could be tried at home has been: from now on it talks, and gives signs of life."""
        self._supervisor.tell(READY="1")
        self._pulse.within(GRACE_S)
        self._pulse.start(self._supervisor.beat_s)
        self._change(coordinator=coordinator)

    def joined(self, client: str) -> None:
        """The coordinator knows it by this name."""
        self._change(client=client)

    def does(self, state: State, *, run: str = "", round_: int | None = None) -> None:
        """This is what it does now."""
        self.within(0.0)
        if (state, run, round_) != (self.status.state, self.status.run, self.status.round):
            self._change(state=state, run=run, round=round_, since=self._clock())

    def hindered(self, why: str) -> None:
        """It waits meanwhile, and for this; "": nothing is in its way any more."""
        self.within(0.0)
        if why != self.status.hindered:
            since = (self.status.hindered_since or self._clock()) if why else None
            self._change(hindered=why, hindered_since=since)

    def accepted(self) -> None:
        """An answer has been."""
        self._change(answers=self.status.answers + 1, last_answer_at=self._clock())

    def within(self, seconds: float) -> None:
        """It is heard of again within so many seconds, and a grace; else it hangs."""
        self._pulse.within(seconds + GRACE_S)

    def end(self, why: str) -> None:
        """The process ends; `why`: "" where its work is done."""
        self._pulse.end()
        self._supervisor.tell(STOPPING="1")
        self._change(state="ended", run="", round=None, hindered=why, hindered_since=None, since=self._clock())

    def _change(self, **facts: Any) -> None:
        self.status = self.status.model_copy(update=facts)
        self._tell()

    def _tell(self) -> None:
        sent, received = self._counted()
        now = {"sent": sent, "received": received, "today": self._today(), "written_at": self._clock()}
        self.status = self.status.model_copy(update=now)
        self._supervisor.tell(STATUS=self.status.said)
        if self._path is not None:
            with contextlib.suppress(OSError):
                write_atomic(self._path, self.status.model_dump_json().encode(), fsync=False, mode=0o644)


def read_status(folder: Path) -> Status | None:
    """What the client of this folder has last written; None where that is nothing whole. Raises: `OSError`."""
    try:
        return Status.model_validate_json((folder / STATUS_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def status_lines(status: Status, *, runs: bool) -> list[tuple[str, str]]:
    """Word and text. `runs`: whether a process works in the folder."""
    gone = f"no process works in this folder; the last one {status.said}"
    lines = [
        ("client", f"{status.client or 'not joined yet'}, version {status.version}"),
        ("coordinator", status.coordinator or "-"),
        ("state", f"{status.said} (since {_moment(status.since)})" if runs else gone),
    ]
    if status.hindered_since is not None:
        lines.append(("hindered", f"since {_moment(status.hindered_since)}"))
    last = "none yet" if status.last_answer_at is None else f"the last at {_moment(status.last_answer_at)}"
    lines.append(("answers", f"{status.answers} accepted since {_moment(status.started_at)}; {last}"))
    today = "" if status.today is None else f", {in_bytes(status.today)} of them today"
    counted = f"{in_bytes(status.sent)} sent, {in_bytes(status.received)} received{today}"
    lines.append(("bytes", f"{counted} (as of {_moment(status.written_at)})"))
    return lines


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
