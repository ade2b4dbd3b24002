"""What has happened, a line in words for each event, with its bytes: rounds, runs, clients, what operators did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from thinwire.coordinator.records.audit import Audit, Deed
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.people import People
from thinwire.coordinator.records.progress import Progress
from thinwire.coordinator.records.runs import Runs
from thinwire.methods.values import EVALUATE
from thinwire.protocol.bytes import Bytes

from .attendance import Attendances

LINES: Final = 100
LINES_OF_RUN: Final = 200
_WORDS: Final = {
    ("POST", "pause"): "paused", ("POST", "resume"): "resumed", ("POST", "stop"): "stopped",
    ("DELETE", "runs"): "deleted run", ("DELETE", "clients"): "revoked client",
    ("DELETE", "record"): "deleted client", ("POST", "delete"): "deleted",
    ("DELETE", "invites"): "voided an invite", ("DELETE", "pending"): "refused the device",
    ("POST", "pending"): "let in the device", ("POST", "accept"): "let in the device",
    ("POST", "refuse"): "refused the device", ("POST", "rename"): "renamed client",
    ("POST", "clients"): "renamed client", ("POST", "revoke"): "revoked client", ("POST", "invites"): "made an invite",
    ("POST", "models"): "stored a model",
    ("POST", "runs"): "started a run", ("POST", "token"): "replaced a token", ("POST", "void"): "voided an invite",
}  # fmt: skip
Kind = Literal["round", "run", "client", "operator"]


@dataclass(frozen=True, slots=True)
class Line:
    """`at`: Unix seconds; `run`, `client`: by name; `wire_bytes`: that the event cost, None where it has no cost."""

    at: float
    kind: Kind
    said: str
    run: str | None = None
    client: str | None = None
    wire_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """The newest first. `earlier`: what happened before this time, Unix seconds, is asked for with it; None where there
    is nothing more.
    """

    lines: list[Line]
    earlier: float | None = None


class Activities:
    """Everything raises `storage-failed`. `called`: what people call the client of a name."""

    def __init__(
        self,
        runs: Runs,
        progress: Progress,
        people: People,
        ledger: Ledger,
        audit: Audit,
        attendances: Attendances,
        called: Callable[[str], str],
    ) -> None:
        self._called = called
        self._runs = runs
        self._progress = progress
        self._people = people
        self._ledger = ledger
        self._audit = audit
        self._attendances = attendances

    async def of(self, key: str, before: float | None = None) -> Activity:
        """What has happened to one run before this time, Unix seconds: rounds and what operators did, of neither more
        than the newest `LINES_OF_RUN`, and no line older than one that was left out. Raises: `run-not-found`.
        """
        row = await self._runs.find(key)
        lines = await self._rounds(LINES_OF_RUN, row.id, before)
        back_to = [min(line.at for line in lines)] if len(lines) == LINES_OF_RUN else []
        lines += [one for one in await self._of_runs() if one.run == row.name and (before is None or one.at < before)]
        for key in (row.name, row.id):
            found = await self._audit.latest(LINES_OF_RUN, about=f"/runs/{key}", until=before)
            deeds = [deed for _, deed in found if key in deed.path.split("/")]
            lines += [Line(deed.at, "operator", in_words(deed)) for deed in deeds]
            back_to += [found[-1][1].at] if len(found) == LINES_OF_RUN else []
        earlier = max(back_to, default=None)
        shown = [line for line in lines if earlier is None or line.at >= earlier]
        return Activity(sorted(shown, key=lambda line: -line.at), earlier)

    async def latest(self, kind: Kind | None, about: str) -> Activity:
        """The newest `LINES` of this kind that have this text in them."""
        lines: list[Line] = []
        if kind in (None, "round"):
            lines += await self._rounds(LINES)
        if kind in (None, "run"):
            lines += await self._of_runs()
        if kind in (None, "client"):
            lines += [
                Line(at, "client", f"{self._called(name)} {what}", client=name)
                for at, name, what in await self._people.latest(LINES)
            ]
        if kind in (None, "operator"):
            lines += [Line(deed.at, "operator", in_words(deed)) for _, deed in await self._audit.latest(LINES)]
        wanted = [line for line in lines if about.casefold() in line.said.casefold()]
        return Activity(sorted(wanted, key=lambda line: -line.at)[:LINES])

    async def _rounds(self, most: int, run_id: str | None = None, before: float | None = None) -> list[Line]:
        names = {row.id: row.name for row in await self._runs.all()}
        closed: defaultdict[str, dict[int, float]] = defaultdict(dict)
        for run, exchange, at in await self._progress.latest_closed(most, run_id, before):
            closed[run][exchange] = at
        found = list[Line]()
        for run, times in closed.items():
            spent = await self._ledger.exchanges(run)
            told = await self._attendances.of(run, max(times) + 1, max(times) - min(times) + 1)
            for one in told.exchanges:
                if one.exchange in times:
                    what = "the evaluation" if one.kind == EVALUATE else f"round {one.round}"
                    said = f"{names[run]}: {what} is over, {one.said}"
                    wire = spent.get(one.exchange, Bytes()).wire
                    found.append(Line(times[one.exchange], "round", said, names[run], wire_bytes=wire))
        return found

    async def _of_runs(self) -> list[Line]:
        found = []
        for row in await self._runs.all():
            found.append(Line(row.created_at, "run", f"{row.name} was made, {row.settings.method}", row.name))
            if row.finished_at is not None:
                why = f": {row.reason}" if row.reason else ""
                found.append(Line(row.finished_at, "run", f"{row.name} is {row.outcome}{why}", row.name))
        return found


def in_words(deed: Deed) -> str:
    """`operator paused night`, from the request that did it."""
    parts = [part for part in deed.path.split("/") if part and part != "v1"]
    word = _WORDS.get((deed.method, parts[-1] if parts else ""))
    about = parts[1] if len(parts) > 2 else ""
    if word is None and len(parts) > 1:
        word, about = _WORDS.get((deed.method, parts[0])), parts[-1]
    what = f"{word} {about}".strip() if word else f"{deed.method} {deed.path}"
    failed = "" if deed.status < 400 else f" (refused: {deed.status})"
    return f"{deed.who or 'operator'} {what}{failed}" + (f": {deed.detail}" if deed.detail else "")
