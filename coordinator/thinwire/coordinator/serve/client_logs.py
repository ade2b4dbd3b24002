"""What clients say of themselves, as they send it: bounded, and fit to be shown."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Final

import zstandard

from thinwire.coordinator.records.client_logs import ClientLogs as LogRows
from thinwire.coordinator.records.client_logs import Line
from thinwire.machine.text import printable
from thinwire.protocol.fields import MAX_LOG_LINES, MAX_SAID
from thinwire.protocol.messages import ClientLog, LogLine
from thinwire.protocol.reasons import ProblemError

from .enrolment import Enrolment

MAX_PACKED: Final = 1 << 16
_MAX_BYTES: Final = 4 * MAX_LOG_LINES * (MAX_SAID + 20)
_WINDOW: Final = 1 << 20
_LATEST: Final = 1e11
"""No clock is beyond the year 5138."""


class ClientLogs:
    """Over the rows. `clock`: Unix seconds. Everything raises `storage-failed`."""

    def __init__(self, rows: LogRows, enrolment: Enrolment, clock: Callable[[], float] = time.time) -> None:
        self._rows = rows
        self._enrolment = enrolment
        self._clock = clock

    async def add(self, client: str, packed: bytes) -> None:
        """Lines as the client has packed them. Raises: `bad-message`, `storage-full`."""
        await self._rows.add(client, unpacked(packed), MAX_LOG_LINES, self._clock())

    async def of(self, client: str) -> ClientLog:
        """The latest lines of a client. Raises: `not-found`."""
        if client not in self._enrolment.clients:
            raise ProblemError("not-found", f"no client is named {client[:64]!r}")
        lines, received_at = await self._rows.of(client)
        told = [LogLine(at=at, said=said) for at, said in lines]
        return ClientLog(client=client, lines=told, received_at=received_at)


def unpacked(packed: bytes) -> list[Line]:
    """The lines of a body: a frame of Zstandard, in it lines of a time in Unix seconds, a space, and text in UTF-8; of
    more than 200 the last. Never more is held than they may be long. Raises: `bad-message`.
    """
    reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(io.BytesIO(packed))
    try:
        data = reader.read(_MAX_BYTES + 1)
        text = data.decode()
    except (zstandard.ZstdError, UnicodeDecodeError) as error:
        raise ProblemError("bad-message", f"lines are UTF-8, packed by Zstandard: {error}") from None
    if len(data) > _MAX_BYTES:
        raise ProblemError("bad-message", f"more than {_MAX_BYTES} bytes of lines")
    return [_line(line) for line in text.split("\n")[-MAX_LOG_LINES:] if line]


def _line(line: str) -> Line:
    at, space, said = line.partition(" ")
    if not space or not at.isascii() or not at.isdecimal() or len(at) > 11 or float(at) > _LATEST:
        raise ProblemError("bad-message", "a line is a time in Unix seconds, a space, and text")
    return float(at), printable(said)[:MAX_SAID]
