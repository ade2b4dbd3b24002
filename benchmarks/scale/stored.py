"""What was measured: a file with a line for each cell, tables, a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from benchmarks.marked import markdown
from benchmarks.pictures import curves
from benchmarks.store import written
from thinwire.machine.files import write_atomic
from thinwire.machine.quantities import in_bytes

from .answering import Answering
from .deployment import KINDS, Kind
from .waiting import Waiting

CLIENT_BYTES: Final = 30_000
WOKEN_S: Final = 5.0
WOKEN: Final = 1000
MEMORY_FROM: Final = 100
"""With fewer clients what a process allocates anyway hides what they take."""
TITLE: Final = "Time for each client while all come to wait, and while a tenth of them is woken"
T = TypeVar("T", Waiting, Answering)


class Cells:
    """The file; a cell that is measured again takes the place of the one before. By kind, then by number or size."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._held: dict[str, dict[str, Any]] = {"waiting": {}, "answering": {}}
        if path is not None and path.exists():
            self._held |= json.loads(path.read_text())

    @property
    def waiting(self) -> list[Waiting]:
        return sorted(self._of(Waiting, "waiting"), key=lambda one: (_place(one), one.clients))

    @property
    def answering(self) -> list[Answering]:
        return sorted(self._of(Answering, "answering"), key=lambda one: (_place(one), one.answer_bytes))

    def _of(self, kind: type[T], name: str) -> list[T]:
        names = {field.name for field in fields(kind)}
        return [
            kind(**{key: value for key, value in cell.items() if key in names}) for cell in self._held[name].values()
        ]

    def put(self, found: Waiting | Answering) -> None:
        """Written at once."""
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        cell = {"measured": datetime.now(UTC).date().isoformat(), **machine, **asdict(found)}
        if isinstance(found, Waiting):
            self._held["waiting"][f"{kind_of(found)}, {found.clients} clients"] = cell
        else:
            self._held["answering"][f"{kind_of(found)}, {found.answer_bytes} bytes"] = cell
        if self._path is not None:
            write_atomic(self._path, written(self._held).encode(), fsync=False, mode=0o644)


def kind_of(one: Waiting | Answering) -> Kind:
    return Kind(one.database, one.replicas)


def _place(one: Waiting | Answering) -> int:
    return KINDS.index(kind_of(one))


WAITING_COLUMNS: Final = (
    "database", "clients", "memory per client", "of it connected", "polls taken", "processor per poll", "woken",
    "half of them", "99 of 100", "the last",
)  # fmt: skip
ANSWERING_COLUMNS: Final = (
    "database", "answer", "registrations", "half of them", "99 of 100", "answers", "half of them", "99 of 100",
    "processor per answer", "rows per answer",
)  # fmt: skip


def waiting_rows(found: Sequence[Waiting]) -> list[tuple[str, ...]]:
    """A row for each kind and number of clients, cells as text."""
    return [
        (str(kind_of(one)), f"{one.clients:,}",
         *("-" if one.clients < MEMORY_FROM else in_bytes(count / one.clients)
           for count in (one.waiting_bytes, one.enrolled_bytes)),
         f"{one.polls_rate:.0f}/s", f"{1e3 * one.polls_cpu_s / one.clients:.2f} ms", f"{one.cohort:,}",
         f"{one.p50_s:.2f} s", f"{one.p99_s:.2f} s", f"{one.woken_s:.2f} s")
        for one in found
    ]  # fmt: skip


def answering_rows(found: Sequence[Answering]) -> list[tuple[str, ...]]:
    """A row for each kind and size of answers, cells as text."""
    return [
        (str(kind_of(one)), in_bytes(one.answer_bytes), f"{one.registrations_rate:.0f}/s",
         f"{one.registrations_p50_s:.2f} s", f"{one.registrations_p99_s:.2f} s", f"{one.answers_rate:.0f}/s",
         f"{one.answers_p50_s:.2f} s", f"{one.answers_p99_s:.2f} s", f"{1e3 * one.cpu_s:.1f} ms",
         "-" if one.rows is None else f"{one.rows:.1f}")
        for one in found
    ]  # fmt: skip


def tables(cells: Cells) -> dict[str, str]:
    """The page's tables, by the name of their place; empty where nothing is stored."""
    waiting, answering = waiting_rows(cells.waiting), answering_rows(cells.answering)
    return {
        "waiting": markdown(WAITING_COLUMNS, waiting) if waiting else "",
        "answering": markdown(ANSWERING_COLUMNS, answering) if answering else "",
    }


def beyond(found: Sequence[Waiting]) -> list[str]:
    """What is not as it should be: a waiting client's memory, the time until a cohort of `WOKEN` is woken."""
    said = []
    for one in found:
        name = f"{kind_of(one)}, {one.clients:,} clients"
        if one.clients >= MEMORY_FROM and one.client_bytes > CLIENT_BYTES:
            said.append(f"{name}: {in_bytes(one.client_bytes)} for each that waits, not {in_bytes(CLIENT_BYTES)}")
        if one.cohort <= WOKEN and one.woken_s > WOKEN_S:
            said.append(
                f"{name}: the last of {one.cohort:,} has its task after {one.woken_s:.1f} s, not {WOKEN_S:.0f} s"
            )
    return said


def draw(found: Sequence[Waiting], path: Path) -> None:
    """A PNG: milliseconds for each client against clients; level is linear, falling is better."""
    series: dict[str, list[tuple[float, float]]] = {}
    for one in found:
        series.setdefault(f"{kind_of(one)}: a poll comes to wait", []).append((one.clients, 1e3 / one.polls_rate))
        series.setdefault(f"{kind_of(one)}: a client of a tenth of all is woken", []).append(
            (one.clients, 1e3 * one.woken_s / one.cohort)
        )
    curves(series, TITLE, "clients that are there (log scale)", "milliseconds", path)
