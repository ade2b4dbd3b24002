"""What is wrong now, in sentences, with the cure of each: whatever can stop a run is here within seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.participation import Effort, Missing, Participation
from thinwire.coordinator.records.presence import Presence as PresenceRows
from thinwire.coordinator.records.progress import Progress
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.troubles import Troubles
from thinwire.coordinator.records.webhooks import WebhookRow, Webhooks
from thinwire.coordinator.runs.rows import ExchangeRow, RunRow
from thinwire.machine.workers import Workers
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.fields import Role
from thinwire.protocol.messages import ProblemKind, ProblemList, ProblemView, Severity
from thinwire.protocol.reasons import ProblemError

from .attendance import moment
from .budget_problems import OfBudget, by_budgets, near_the_end
from .machine import Machine

MOST_CLIENTS: Final = 20
"""Of one run and kind that are named."""
FAILED_FOR_S: Final = 86_400.0
"""A run that has failed is a problem for so long."""
MOST_FAILURES: Final = 3
"""In a row, of telling a webhook, that are no problem yet."""
FAR_OFF: Final = 3.0
"""A loss so many times the middle one of the others diverges."""
_RANKS: Final[dict[Severity, int]] = {"error": 0, "warning": 1, "notice": 2}
_BY_OPERATOR: Final = "by the operator"
_TAKE_TASKS: Final[tuple[Role, ...]] = ("client",)


class Problems:
    """Looks when it is asked. What no row dates is since it was first seen. `called`: what people call the client of
    a name. `clock`: Unix seconds.
    """

    def __init__(
        self,
        runs: Runs,
        exchanges: Exchanges,
        participation: Participation,
        progress: Progress,
        presence: PresenceRows,
        webhooks: Webhooks,
        troubles: Troubles,
        machine: Machine,
        workers: Workers,
        *,
        silent_after_s: float,
        called: Callable[[str], str] = str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._called = called
        self._runs = runs
        self._exchanges = exchanges
        self._participation = participation
        self._progress = progress
        self._presence = presence
        self._webhooks = webhooks
        self._troubles = troubles
        self._machine = machine
        self._workers = workers
        self._silent_after_s = silent_after_s
        self._clock = clock
        self._noticed: dict[tuple[str, str | None, str | None], float] = {}

    async def now(self) -> ProblemList:
        """All of them, the worst first, then the oldest; that they cannot be looked for is one of them."""
        try:
            return await self._look(self._clock())
        except (ProblemError, OSError) as error:
            return _unreadable(str(error), self._clock())

    async def _look(self, now: float) -> ProblemList:
        rows = await self._runs.all()
        going = [row for row in rows if not row.finished]
        ids = [row.id for row in going]
        changed, spent = await self._progress.changed_at(ids), await self._progress.spent(ids)
        found = [
            self._seen(fault.kind, fault.severity, fault.said, fault.cure)
            for fault in await self._workers.run(
                lambda newest: list(self._machine.faults(now, newest)), await self._progress.newest_at()
            )
        ]
        found += [self._untold(one) for one in await self._webhooks.all() if one.failures >= MOST_FAILURES]
        for row in rows:
            if row.outcome == "failed" and (row.finished_at or 0.0) > now - FAILED_FOR_S:
                found.append(_failed(row))
        for row in going:
            found += self._of_row(row, changed.get(row.id, row.created_at))
            found += self._said(row, near_the_end(row, spent.get(row.id, Bytes()).wire))
            if row.state == "pending" and row.command is None:
                found += await self._waiting(row, now)
            found += await self._troubled(row)
            if row.state == "running":
                found += await self._of_exchange(row, now)
        kept = {(one.kind, one.run, one.client) for one in found}
        self._noticed = {key: at for key, at in self._noticed.items() if key in kept}
        return ProblemList(problems=sorted(found, key=lambda one: (_RANKS[one.severity], one.since)))

    def _seen(
        self, kind: ProblemKind, severity: Severity, said: str, cure: str, run: str | None = None,
        client: str | None = None, command: str | None = None,
    ) -> ProblemView:  # fmt: skip
        since = self._noticed.setdefault((kind, run, client), self._clock())
        return ProblemView(
            kind=kind, severity=severity, said=said, cure=cure, since=since, run=run, client=client, command=command
        )

    def _of_row(self, row: RunRow, changed_at: float) -> Iterator[ProblemView]:
        name = row.name
        if row.unreadable is not None:
            yield self._seen(
                "version", "error", f"{name}: {row.unreadable}", "serve it with the version that began it", name
            )
        for trouble in self._troubles.of(row.id):
            yield self._seen(
                "storage", "error", f"{name} cannot go on: {trouble}",
                "make room on the disk, or make it writable: the run goes on by itself", name,
            )  # fmt: skip
        if row.damaged:
            yield ProblemView(
                kind="storage", severity="error", said=f"{name} is damaged: {row.reason}", since=changed_at, run=name,
                cure="put the data folder back from a backup and resume the run, or stop it",
                command=f"thinwire run resume {name}",
            )  # fmt: skip
        elif row.state == "paused":
            by_hand = row.reason == _BY_OPERATOR
            cure = "resume it" if by_hand else "look who is missing, then resume it; a lower quorum needs fewer answers"
            yield ProblemView(
                kind="paused" if by_hand else "quorum", severity="notice" if by_hand else "error",
                said=f"{name} is paused: {row.reason}", since=changed_at, run=name, cure=cure,
                command=f"thinwire run resume {name}",
            )  # fmt: skip

    def _said(self, row: RunRow, of_budgets: Iterable[OfBudget]) -> list[ProblemView]:
        return [self._seen("budget", one.severity, one.said, one.cure, row.name, one.client) for one in of_budgets]

    def _untold(self, one: WebhookRow) -> ProblemView:
        host = urlsplit(one.url).netloc
        return self._seen(
            "webhook", "warning", f"the webhook {one.id}, at {host}, did not take {one.failures} times: {one.said}",
            "mend the receiver, then test the webhook: what waits follows at once; or remove it",
            client=None, command=f"thinwire webhook test {one.id}",
        )  # fmt: skip

    async def _waiting(self, row: RunRow, now: float) -> list[ProblemView]:
        there, needed = len(await self._there(row, now)), row.settings.present
        if there >= needed:
            return []
        return [
            ProblemView(
                kind="waiting", severity="warning", since=row.created_at, run=row.name,
                said=f"{row.name} waits for {needed} clients of group {row.group}: {there} are there",
                cure="let more clients join, or wait for them",
                command=f"thinwire client invite --group {row.group}",
            )
        ]  # fmt: skip

    async def _there(self, row: RunRow, now: float) -> set[str]:
        return await self._presence.present(row.group, row.spec, _TAKE_TASKS, now - self._silent_after_s)

    async def _of_exchange(self, row: RunRow, now: float) -> list[ProblemView]:
        found: list[ProblemView] = []
        opened = await self._exchanges.get(row.id, row.exchange)
        if row.exchange > 0:
            efforts = await self._participation.efforts(row.id, row.exchange - 1, 1000)
            found += self._diverging(row, efforts)
        if opened is None or opened.closed:
            return found
        found += self._said(row, by_budgets(row, opened))
        missing = await self._participation.missing(row.id, row.exchange, row.exchange, 10_000)
        since = opened.opened_at or row.created_at
        silent = [one for one in missing if one.state == "open" and not one.answered and self._is_silent(one, now)]
        found += [_silent(row, self._named(one), since, now) for one in silent[:MOST_CLIENTS]]
        found += await self._quorum(row, opened, missing, silent, now)
        return found

    async def _troubled(self, row: RunRow) -> list[ProblemView]:
        opened = await self._exchanges.get(row.id, row.exchange)
        if opened is None or opened.closed:
            return []
        missing = await self._participation.missing(row.id, row.exchange, row.exchange, MOST_CLIENTS, trouble=True)
        return [_gave_up(row, self._named(one), opened.opened_at or row.created_at) for one in missing]

    def _named(self, one: Missing) -> Missing:
        return replace(one, client=self._called(one.client))

    def _is_silent(self, one: Missing, now: float) -> bool:
        return one.seen_at is None or one.seen_at < now - self._silent_after_s

    async def _quorum(
        self, row: RunRow, opened: ExchangeRow, missing: list[Missing], silent: list[Missing], now: float
    ) -> list[ProblemView]:
        needed = min(row.settings.needed, opened.size)
        names = {one.client for one in silent}
        at_work = sum(one.state == "open" and one.client not in names for one in missing)
        asked = {one.client for one in missing}
        others = 0
        if opened.cohort == "new" and opened.answers + at_work < needed:
            counted = await self._participation.counted(row.id, row.exchange)
            others = len(await self._there(row, now) - asked - counted)
        if opened.answers + at_work + others >= needed:
            return []
        return [
            self._seen(
                "quorum", "error",
                f"{row.name}, round {opened.round}: {needed} answers are needed, {opened.answers} are there, and only "
                f"{at_work + others} more can come",
                "bring clients back or let others join; else the run pauses when its offers are used up", row.name,
                command=f"thinwire run show {row.name}",
            )
        ]  # fmt: skip

    def _diverging(self, row: RunRow, efforts: Iterable[Effort]) -> Iterator[ProblemView]:
        told = [one for one in efforts if one.state == "accepted"]
        losses = [one.metrics["loss"] for one in told if "loss" in one.metrics]
        middle = statistics.median(losses) if len(losses) > 2 else None
        worst = sorted(told, key=lambda one: -one.metrics.get("loss", float("inf")))[:MOST_CLIENTS]
        for one in (replace(each, client=self._called(each.client)) for each in worst):
            loss = one.metrics.get("loss")
            cure = "look at its data and its log; revoke it if it does not come right"
            if one.metrics.get("not_finite"):
                said = f"{one.client} in {row.name}: what it measured is no number"
            elif middle is not None and loss is not None and loss > FAR_OFF * max(middle, 1e-6):
                said = f"{one.client} in {row.name}: its loss is {loss:.3g}, the others' {middle:.3g}"
            else:
                continue
            yield self._seen(
                "diverging", "warning", said, cure, row.name, one.client, f"thinwire client revoke {one.client}"
            )


def _failed(row: RunRow) -> ProblemView:
    return ProblemView(
        kind="failed", severity="error", said=f"{row.name} has failed: {row.reason}", since=row.finished_at or 0.0,
        run=row.name, cure="its model so far is kept: begin another run with it",
        command=f"thinwire run pull {row.name}",
    )  # fmt: skip


def _gave_up(row: RunRow, one: Missing, since: float) -> ProblemView:
    if one.reason == "declined":
        return ProblemView(
            kind="declined", severity="warning", since=since, run=row.name, client=one.client,
            said=f"{one.client} declined its task of {row.name}: {one.detail}",
            cure="mend what it says on the device; it is asked again in the next round",
            command=f"thinwire client log {one.client}",
        )  # fmt: skip
    return ProblemView(
        kind="refused", severity="warning", since=since, run=row.name, client=one.client,
        said=f"the answer of {one.client} to {row.name} was refused: {one.detail or one.reason}",
        cure="look at its version and its settings; revoke it if it does not come right",
        command=f"thinwire client revoke {one.client}",
    )  # fmt: skip


def _silent(row: RunRow, one: Missing, since: float, now: float) -> ProblemView:
    heard = "was never heard" if one.seen_at is None else f"is silent since {moment(one.seen_at, now)}"
    return ProblemView(
        kind="silent", severity="warning", since=one.seen_at or since, run=row.name, client=one.client,
        said=f"{one.client} has a task of {row.name} and {heard}",
        cure="look at the device and its link; another is asked when the offer's time is up",
    )  # fmt: skip


def _unreadable(why: str, now: float) -> ProblemList:
    """Where the rows cannot be read."""
    cure = "look at the data folder's disk and the coordinator's log"
    said = f"what there is cannot be read: {why}"
    return ProblemList(problems=[ProblemView(kind="storage", severity="error", said=said, cure=cure, since=now)])
