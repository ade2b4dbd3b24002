"""Plays cells without a network: each in a process of its own that has all clients, as many at once as there are cores.

Payloads are those of the codecs; framing is what `benchmarks.framing` measured of an exchange; training is on one
thread, as that of every client of a lab is, so that a run over the service ends in the same accuracy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any, Final

from benchmarks.cells import Cell
from benchmarks.store import Store
from thinwire.machine.link_rates import parse_link
from thinwire.operator.advise_bytes import coming, cost_of, points_of
from thinwire.operator.advise_trials import Trials
from thinwire.operator.lab import ENVIRONMENT
from thinwire.protocol.messages import ExchangeMetrics
from thinwire.protocol.trials import TrialPlace, TrialRequest, TrialResult

LINKS: Final = ("4g", "nb-iot")
"""Whose seconds of transfers are told of each cell."""


def play(cells: Sequence[Cell], store: Store, device: str) -> Iterator[Cell]:
    """The cells as they end, each stored."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waited = {pool.submit(_played, cell, device): cell for cell in cells}
        for done in as_completed(waited):
            cell, (place, result) = waited[done], done.result()
            found = {
                "outcome": result.outcome,
                "reason": result.reason or None,
                "seconds": round(result.seconds, 1),
                "parameters": place.parameters,
                "link_seconds": {link: round(_on(link, result, place), 1) for link in LINKS},
            }
            store.keep(cell, found, exchanges_of(result), device)
            yield cell


def _played(cell: Cell, device: str) -> tuple[TrialPlace, TrialResult]:
    options = [*replace(cell.fleet, device=device).plays(), "--threads", "1"]
    with Trials(options, environment={**ENVIRONMENT, **dict(cell.environment)}) as trials:
        return trials.begin(), trials.play(TrialRequest(run=cell.settings(0)))


def _on(link: str, result: TrialResult, place: TrialPlace) -> float:
    """Seconds of all transfers on this link."""
    rates = parse_link(link)
    points = points_of(result, place.model_copy(update={"link": (rates.up_bps, rates.down_bps, rates.rtt_s)}))
    return points[-1].seconds if points else 0.0


def exchanges_of(result: TrialResult) -> list[ExchangeMetrics]:
    """As the coordinator tells of a run: what clients come with is in the exchange that they come to."""
    found: list[ExchangeMetrics] = []
    up = down = 0
    for index, one in enumerate(result.exchanges):
        cost, begun = cost_of(one), coming(one)
        sent, received = cost.up + begun.up, cost.down + begun.down
        given: dict[str, Any] = {
            "exchange": index, "round": one.round, "step": one.step, "kind": one.kind, "answers": one.clients,
            "offers": 1, "metrics": one.metrics, "seconds": 0.0, "uplink_bytes": sent, "downlink_bytes": received,
            "uplink_payload_bytes": one.uplink_bytes, "downlink_payload_bytes": one.downlink_bytes,
            "uplink_bytes_before": up, "downlink_bytes_before": down,
        }  # fmt: skip
        found.append(ExchangeMetrics.model_validate(given))
        up, down = up + sent, down + received
    return found
