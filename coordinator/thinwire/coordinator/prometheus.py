"""The coordinator's figures in Prometheus' text format: base units, `_total` for counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from thinwire.protocol.messages import LEDGER_KINDS

from .ledger import Ledger

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is so at this moment. `runs`: by state; `disk_bytes`: by folder."""

    runs: Mapping[str, int]
    parked_clients: int
    open_exchanges: int
    disk_bytes: Mapping[str, int]


class _Figures(Collector):
    def __init__(self, ledger: Ledger, gauges: Gauges) -> None:
        self._ledger = ledger
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        yield from self._counters()
        gauges = self._gauges
        yield _labelled("thinwire_runs", "Runs by state.", "state", gauges.runs)
        yield GaugeMetricFamily("thinwire_parked_clients", "Clients whose poll is waiting.", gauges.parked_clients)
        yield GaugeMetricFamily("thinwire_open_exchanges", "Exchanges that wait for answers.", gauges.open_exchanges)
        yield _labelled("thinwire_disk_bytes", "Bytes on disk by folder.", "folder", gauges.disk_bytes)

    def _counters(self) -> Iterator[Metric]:
        wire = CounterMetricFamily(
            "thinwire_wire_bytes", "Bytes on the wire, headers included.", labels=["direction", "kind"]
        )
        payload = CounterMetricFamily(
            "thinwire_payload_bytes", "Payload bytes among them.", labels=["direction", "kind"]
        )
        requests = CounterMetricFamily("thinwire_requests", "Requests served.", labels=["kind"])
        for kind in LEDGER_KINDS:
            tally = self._ledger.kind(kind)
            wire.add_metric(["uplink", kind], tally.uplink)
            wire.add_metric(["downlink", kind], tally.downlink)
            payload.add_metric(["uplink", kind], tally.uplink_payload)
            payload.add_metric(["downlink", kind], tally.downlink_payload)
            requests.add_metric([kind], tally.requests)
        yield from (wire, payload, requests)


def _labelled(name: str, help_: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def exposition(ledger: Ledger, gauges: Gauges) -> bytes:
    """The body of `GET /metrics`, of `CONTENT_TYPE`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(ledger, gauges))
    return generate_latest(registry)
