"""Who took part in the rounds of a run, by name."""

from __future__ import annotations

from thinwire.protocol.fields import Count, Message, Name


class Absence(Message):
    """A client that was asked and does not count, and why, in words."""

    client: Name
    why: str


class Came(Message):
    """Whose answer counts in an exchange of an asynchronous run, and by how many exchanges it began before that one."""

    client: Name
    staleness: Count


class Attendance(Message):
    """One exchange: `counted` of the `asked` clients' answers count; `absent`: who of the others, the first by name;
    `said`: all of it in one sentence. Of an asynchronous run, `asked` are the answers that it closes at, `came` is
    whose they are, the newest first, and `absent` who was asked by this exchange and counts in none so far.
    """

    exchange: Count
    round: Count
    step: Count
    kind: str
    counted: Count
    asked: Count
    absent: list[Absence]
    said: str
    came: list[Came] | None = None


class AttendanceList(Message):
    """`GET /v1/runs/{run}/attendance`: the latest exchanges of a run, in order, the open one too."""

    exchanges: list[Attendance]
