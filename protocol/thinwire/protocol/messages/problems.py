"""What keeps a coordinator's runs from going on, or soon may."""

from __future__ import annotations

from typing import Literal

from thinwire.protocol.fields import Message

ProblemKind = Literal[
    "quorum", "waiting", "silent", "declined", "refused", "diverging", "paused", "failed", "budget", "storage", "disk",
    "clock", "version", "certificate", "webhook",
]  # fmt: skip
Severity = Literal["error", "warning", "notice"]


class ProblemView(Message):
    """One problem as operators see it. `said`: what is wrong, in a sentence; `cure`: what to do; `command`: the command
    that does it, where there is one; `since`: Unix seconds. `run`, `client`: whose it is, by name.
    """

    kind: ProblemKind
    severity: Severity
    said: str
    cure: str
    since: float
    run: str | None = None
    client: str | None = None
    command: str | None = None


class ProblemList(Message):
    """`GET /v1/problems`: what is wrong now, the worst first. What is cured is not in it any more."""

    problems: list[ProblemView]
