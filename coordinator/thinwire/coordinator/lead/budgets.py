"""What a run's budgets say of the next round, and of each client, from the ledger's rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from thinwire.coordinator.records.bills import Bills
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.runs.budget import (
    Before,
    Lowered,
    Past,
    Spent,
    beyond_budget,
    day_of,
    has_client_budget,
    last_round,
    lower,
    month_of,
    why_left_out,
)
from thinwire.machine.workers import Workers
from thinwire.methods.values import EVALUATE, Task
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.settings import RunSettings

from .clock import Clock
from .current import Current, Led

_LOOKS: Final = 5
PLAN_BYTES: Final = 1500
"""Of a plan and of the request that fetches it, rather more than less."""


@dataclass(frozen=True, slots=True)
class Next:
    """Of the next round: what is lowered, and why there is none, if there is none."""

    lowered: Lowered = field(default_factory=Lowered)
    beyond: str | None = None


class Budgets:
    """Asks the ledger; decides by `runs.budget`. Everything raises `storage-failed`."""

    def __init__(self, ledger: Ledger, bills: Bills, workers: Workers, clock: Clock) -> None:
        self._ledger = ledger
        self._bills = bills
        self._workers = workers
        self._clock = clock

    async def next_round(self, led: Led) -> Next:
        """What the run's own budgets say, once a round is over."""
        run = led.definition.run
        last = last_round(led.history)
        if not last or (run.max_bytes is None and run.max_bytes_per_round is None):
            return Next()
        spent, uncharged = await self._carried(led.id, last)
        before = Before(
            all=sum(spent.get(one.exchange, Bytes()).wire for one in led.history) + uncharged,
            last=Bytes.sum(spent.get(index, Bytes()) for index in last) + Bytes(uplink_payload=uncharged),
            final=spent.get(last[-1], Bytes()).downlink if run.evaluate else 0,
            clients=len(await self._ledger.clients_in(led.id, last)),
            lowered=led.lowered,
            sizes=await self._workers.run(led.definition.sizes, led.history[-1].kind),
            plan=PLAN_BYTES,
        )
        lowered = lower(run, before, run.rounds - led.history[-1].round)
        return Next(lowered, beyond_budget(run, before, lowered))

    async def _carried(self, run: str, last: Sequence[int]) -> tuple[dict[int | None, Bytes], int]:
        """What the run's exchanges have cost, and what the requests with the answers of the last round have carried,
        which are still open: the next task rides on their replies.
        """
        uncharged = self._ledger.uncharged(run, last)
        for _ in range(_LOOKS):
            spent, before = await self._ledger.exchanges(run), uncharged
            uncharged = self._ledger.uncharged(run, last)
            if uncharged == before:  # else one has ended meanwhile, and would be counted twice or not at all
                break
        return spent, uncharged

    async def left_out(self, led: Led, current: Current, names: Collection[str]) -> dict[str, str]:
        """Client -> which budget of its own keeps it from being asked, of these."""
        run, task = led.definition.run, current.published.task
        if not names or not has_client_budget(run):
            return {}
        spent = await self._spent(led, task, current.index)
        said = {name: why_left_out(run, spent, name) for name in sorted(names)}
        return {name: why for name, why in said.items() if why is not None}

    def today(self) -> int:
        """In days since 1970, UTC."""
        return day_of(self._clock.wall())

    async def _spent(self, led: Led, task: Task, index: int) -> Spent:
        now, run = self._clock.wall(), led.definition.run
        like = [one.exchange for one in led.history if _is_like(one, task)][-1:]
        of_round = [one.exchange for one in led.history if one.round == task.round and one.kind != EVALUATE]
        # What has been carried is stored by the first question, so the days hold it too.
        round_ = await self._ledger.clients_in(led.id, [*of_round, index])
        before = await self._ledger.clients_in(led.id, like)
        month = await self._bills.days_of(led.id, month_of(now)) if _counts_days(run) else {}
        today = day_of(now)
        return Spent(
            round=round_,
            day={name: days.get(today, 0) for name, days in month.items()},
            month={name: sum(days.values()) for name, days in month.items()},
            like=before,
        )


def _is_like(one: Past, task: Task) -> bool:
    return one.kind == task.kind and one.step == task.step and one.round < task.round


def _counts_days(run: RunSettings) -> bool:
    return run.max_bytes_per_day is not None or run.max_bytes_per_month is not None
