"""The coordinator's figures in Prometheus' text format: base units, `_total` for counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Final, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from thinwire.coordinator.runs.tally import Outcome
from thinwire.coordinator.serve.figures import Gauges, RunFigures
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LEDGER_KINDS
from thinwire.protocol.reasons import WIRE_VERSION

VERSION: Final = version("thinwire")
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Figures(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        yield from self._counters()
        gauges = self._gauges
        yield _labelled("thinwire_runs", "Runs by state.", "state", gauges.runs)
        yield GaugeMetricFamily("thinwire_parked_clients", "Clients whose poll is waiting.", gauges.parked_clients)
        yield GaugeMetricFamily("thinwire_open_exchanges", "Exchanges that wait for answers.", gauges.open_exchanges)
        yield _labelled("thinwire_disk_bytes", "Bytes on disk by folder.", "folder", gauges.disk_bytes)
        yield InfoMetricFamily("thinwire_build", "What serves.", {"version": VERSION, "wire": str(WIRE_VERSION)})
        yield from _of_runs(gauges.each_run)

    def _counters(self) -> Iterator[Metric]:
        wire = CounterMetricFamily(
            "thinwire_wire_bytes",
            "Bytes on the wire since this process started, headers included.",
            labels=["direction", "kind"],
        )
        payload = CounterMetricFamily(
            "thinwire_payload_bytes", "Payload bytes among them.", labels=["direction", "kind"]
        )
        requests = CounterMetricFamily("thinwire_requests", "Requests served.", labels=["kind"])
        for kind in LEDGER_KINDS:
            crossed = self._gauges.wire.get(kind, Bytes())
            wire.add_metric(["uplink", kind], crossed.uplink)
            wire.add_metric(["downlink", kind], crossed.downlink)
            payload.add_metric(["uplink", kind], crossed.uplink_payload)
            payload.add_metric(["downlink", kind], crossed.downlink_payload)
            requests.add_metric([kind], crossed.requests)
        yield from (wire, payload, requests)


def _of_runs(runs: Iterable[RunFigures]) -> Iterator[Metric]:
    """Of each run by its name. No label names a client: their number is not bounded, and they are nobody's business."""
    info = GaugeMetricFamily("thinwire_run_state", "1 for the state that the run is in.", labels=["run", "state"])
    gauges = {
        name: GaugeMetricFamily(f"thinwire_{name}", help_, labels=["run"])
        for name, help_ in (
            ("run_round", "Rounds that are done."),
            ("run_rounds", "Rounds that the run has in all."),
            ("run_accuracy", "Accuracy, or Dice, of the newest model that was measured."),
            ("run_loss", "Loss of the newest model that was measured."),
            ("last_answer_timestamp_seconds", "When the last answer was decided on, since this process started."),
        )
    }
    answers = CounterMetricFamily("thinwire_answers", "What became of answers.", labels=["run", "outcome"])
    lasted = HistogramMetricFamily("thinwire_exchange_seconds", "How long exchanges were open.", labels=["run"])
    for run in runs:
        info.add_metric([run.name, run.state], 1)
        found = (run.round, run.rounds, run.accuracy, run.loss, run.answered_at)
        for family, value in zip(gauges.values(), found, strict=True):
            if value is not None:
                family.add_metric([run.name], value)
        for outcome in get_args(Outcome):
            answers.add_metric([run.name, outcome], run.answers.get(outcome, 0))
        lasted.add_metric([run.name], run.exchanges.cumulated(), run.exchanges.seconds)
    yield from (info, *gauges.values(), answers, lasted)


def _labelled(name: str, help_: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def exposition(gauges: Gauges) -> bytes:
    """The body of `GET /metrics`, of `CONTENT_TYPE`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(gauges))
    return generate_latest(registry)
