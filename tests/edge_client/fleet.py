"""Clients as real processes: `python -m thinwire.edge_client ...`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests import forked

LIMIT_S = 90


class Member:
    """One process. `lines`: what it has said until now."""

    def __init__(self, arguments: list[str], folder: Path, invite: str | None) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(folder), "PYTHONWARNINGS": "error"}
        environment.pop("THINWIRE_INVITE", None)
        if invite is not None:
            environment["THINWIRE_INVITE"] = invite
        self.lines: list[str] = []
        reading, writing = os.pipe()
        self._said = os.fdopen(reading, errors="replace")
        with open(os.devnull, "wb") as nothing:
            words = ["-m", "thinwire.edge_client", *arguments]
            self.process = forked.start(words, nothing.fileno(), writing, environment=environment)
        os.close(writing)

    def until(self, what: str) -> None:
        """Reads on to a line that contains this. Fails when the process ends before."""
        for line in self._said:
            self.lines.append(line)
            if what in line:
                return
        raise AssertionError(f"it never said {what!r}, but:\n{''.join(self.lines)}")

    def end(self, how: int | None = None) -> tuple[int, str]:
        """Waits for its end, after this signal if one is given: exit code, all it said on standard error."""
        if how is not None:
            self.process.send_signal(how)
        with self._said:
            self.lines += self._said
        return self.process.wait(LIMIT_S), "".join(self.lines)


class Fleet:
    """Starts members; `end` kills those that are left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._members: list[Member] = []

    def command(self, *arguments: str, invite: str | None = None) -> Member:
        member = Member(list(arguments), self.folder, invite)
        self._members.append(member)
        return member

    def join(self, url: str, name: str, share: str, *more: str, invite: str | None = None, **options: Any) -> Member:
        """`join` on the digits, split evenly, in a folder of its name."""
        given = {
            "task": "digits",
            "name": name,
            "share": share,
            "threads": "1",
            "data-dir": str(self.folder / name),
            "stats": str(self.folder / f"{name}.json"),
            **{key.replace("_", "-"): str(value) for key, value in options.items()},
        }
        return self.command("join", url, *more, *(f"--{key}={value}" for key, value in given.items()), invite=invite)

    def end(self) -> None:
        for member in self._members:
            if member.process.poll() is None:
                member.end(signal.SIGKILL)
