"""What the measured figures mean for a million clients, as formulas, and what breaks first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.marked import markdown
from thinwire.machine.quantities import in_bytes

from .answering import Answering
from .deployment import KINDS, Kind
from .stored import kind_of
from .waiting import Waiting

CLIENTS: Final = 1_000_000
POLL_S: Final = 600
COHORT: Final = 10_000
EVERY_S: Final = 3600
ANSWER_BYTES: Final = 100_000
FILES: Final = 1 << 20
"""That a process may open where its limit is raised as far as Linux does without further settings."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What `CLIENTS` need with one kind, from its largest number of waiting clients and its answers."""

    kind: Kind
    waiting: Waiting
    answering: Answering

    @property
    def polls(self) -> float:
        return CLIENTS / POLL_S

    @property
    def answers(self) -> float:
        return COHORT / EVERY_S

    @property
    def processors(self) -> float:
        """Of all coordinators."""
        return self.polls * self.waiting.polls_cpu_s / self.waiting.clients + self.answers * self.answering.cpu_s

    @property
    def rows(self) -> float | None:
        """In a second."""
        if self.waiting.polls_rows is None or self.answering.rows is None:
            return None
        return self.polls * self.waiting.polls_rows / self.waiting.clients + self.answers * self.answering.rows

    @property
    def bytes(self) -> float:
        """On the wire in a second, both ways; a task costs the download of a model as large as an answer."""
        each = self.answering.uplink + self.answering.downlink + ANSWER_BYTES
        return self.polls * self.waiting.idle_bytes + self.answers * each

    @property
    def woken_s(self) -> float:
        """For each client of a cohort."""
        return self.waiting.woken_s / self.waiting.cohort

    @property
    def limits(self) -> dict[str, float]:
        """What is used of each thing that ends; beyond 1 it does not suffice."""
        return {
            "polls and answers taken": self.polls / self.waiting.polls_rate
            + self.answers / self.answering.answers_rate,
            "processor": self.processors / self.kind.replicas,
            "open files": 2 * CLIENTS / self.kind.replicas / FILES,
        }

    @property
    def first(self) -> str:
        """What breaks first, and with how many clients."""
        name, used = max(self.limits.items(), key=lambda item: item[1])
        return f"{name}, at {CLIENTS / used:,.0f} clients"


def needs(waiting: Sequence[Waiting], answering: Sequence[Answering]) -> Iterator[Needs]:
    """One for each kind that was measured."""
    for kind in KINDS:
        mine = [one for one in waiting if kind_of(one) == kind]
        answers = [one for one in answering if kind_of(one) == kind and one.answer_bytes == ANSWER_BYTES]
        if mine and answers:
            yield Needs(kind, max(mine, key=lambda one: one.clients), answers[0])


def table(waiting: Sequence[Waiting], answering: Sequence[Answering]) -> str:
    """A column for each kind that was measured; empty without one."""
    found = list(needs(waiting, answering))
    if not found:
        return ""
    rows = [
        ("polls in a second", "N / P", *(f"{one.polls:,.0f}" for one in found)),
        ("answers in a second", "C / T", *(f"{one.answers:.1f}" for one in found)),
        ("requests in a second", "N / P + r C / T",
         *(f"{one.polls + one.answers * one.answering.requests:,.0f}" for one in found)),
        ("bytes in a second, both ways", "b N / P + (u + d + model) C / T",
         *(in_bytes(one.bytes) for one in found)),
        ("rows in a second", "w N / P + v C / T",
         *("-" if one.rows is None else f"{one.rows:,.0f}" for one in found)),
        ("processors", "p N / P + q C / T", *(f"{one.processors:.1f}" for one in found)),
        ("memory", "m N", *(in_bytes(CLIENTS * one.waiting.client_bytes) for one in found)),
        ("object requests in a second, at most", "3 C / T", *(f"{3 * one.answers:.1f}" for one in found)),
        ("a cohort is woken in", "C t", *(f"{COHORT * one.woken_s:.0f} s" for one in found)),
        *((f"used: {name}", formula, *(f"{one.limits[name]:.0%}" for one in found))
          for name, formula in (
              ("polls and answers taken", "(N / P) / polls taken + (C / T) / answers taken"),
              ("processor", "processors / replicas"),
              ("open files", "2 N / (replicas x 1,048,576)"),
          )),
        ("breaks first", "the largest of these", *(one.first for one in found)),
    ]  # fmt: skip
    return markdown(("", "formula", *(str(one.kind) for one in found)), rows)
