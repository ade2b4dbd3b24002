"""Who took part in the rounds of a run, by name."""

from __future__ import annotations

from thinwire.protocol.fields import Count, Message, Name


class Absence(Message):
    """A client that was asked and does not count, and why, in words."""

    client: Name
    why: str


class Attendance(Message):
    """One exchange: `counted` of the `asked` clients' answers count; `absent`: who of the others, the first by name;
    `said`: all of it in one sentence.
    """

    exchange: Count
    round: Count
    step: Count
    kind: str
    counted: Count
    asked: Count
    absent: list[Absence]
    said: str


class AttendanceList(Message):
    """`GET /v1/runs/{run}/attendance`: the latest exchanges of a run, in order, the open one too."""

    exchanges: list[Attendance]
