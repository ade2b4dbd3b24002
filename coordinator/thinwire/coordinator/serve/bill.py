"""The bill: what the wire has cost, by client, kind, direction, payload and framing; and what a run will cost."""

from __future__ import annotations

from dataclasses import dataclass

from thinwire.coordinator.records.bills import Bills as BillRows
from thinwire.coordinator.records.runs import Runs
from thinwire.protocol.bytes import Bytes

from .overview import Glance, Overviews


@dataclass(frozen=True, slots=True)
class Row:
    """Bytes of one client and kind; empty strings: nobody's. Framing is everything that is not payload."""

    client: str
    kind: str
    requests: int
    uplink_payload_bytes: int
    uplink_framing_bytes: int
    downlink_payload_bytes: int
    downlink_framing_bytes: int
    resumed_bytes: int


@dataclass(frozen=True, slots=True)
class OfRun:
    """A run on the bill. `forecast_bytes`: at its end, if its rounds go on to cost what the last three did."""

    run: str
    state: str
    wire_bytes: int
    forecast_bytes: int | None
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class Bill:
    """`run`: whose rows these are, and those of its clients that belong to no run, as its ledger has them; None for all
    that has ever crossed. `today`, `month`: wire bytes of them since midnight and since the first of the month, UTC.
    """

    run: str | None
    rows: list[Row]
    kinds: list[Row]
    runs: list[OfRun]
    wire_bytes: int
    today_bytes: int
    month_bytes: int


class Bills:
    """Everything raises `storage-failed`."""

    def __init__(self, rows: BillRows, runs: Runs, overviews: Overviews) -> None:
        self._rows = rows
        self._runs = runs
        self._overviews = overviews

    async def bill(self, key: str | None, today: int, month_began: int) -> Bill:
        """Of one run, or of all. Days are counted from 1970. Raises: `run-not-found`."""
        run = None if key is None else await self._runs.find(key)
        # In this order: bytes that cross between two looks can make a whole larger, never less than its part.
        days = await self._rows.days(None if run is None else run.id, month_began)
        glances = (await self._overviews.runs()).runs
        found = await self._rows.rows(None if run is None else run.id)
        rows = [_row(client, kind, value) for (client, kind), value in found.items()]
        by_kind: dict[str, Bytes] = {}
        for (_, kind), value in found.items():
            by_kind[kind] = by_kind.get(kind, Bytes()) + value
        chosen = [one for one in glances if run is None or one.run.id == run.id]
        of_runs = [await self._of_run(one) for one in chosen]
        return Bill(
            None if run is None else run.name,
            sorted(rows, key=lambda row: (row.client, row.kind)),
            [_row("", kind, value) for kind, value in sorted(by_kind.items())],
            of_runs,
            sum(value.wire for value in found.values()),
            days.get(today, 0),
            sum(days.values()),
        )

    async def _of_run(self, one: Glance) -> OfRun:
        view, spent = one.run, one.uplink_bytes + one.downlink_bytes
        forecast = await self._overviews.forecast(view.id)
        return OfRun(view.name, view.outcome or view.state, spent, forecast, one.max_bytes)


def _row(client: str, kind: str, value: Bytes) -> Row:
    return Row(
        client, kind, value.requests, value.uplink_payload, value.uplink_framing, value.downlink_payload,
        value.downlink_framing, value.resumed,
    )  # fmt: skip
