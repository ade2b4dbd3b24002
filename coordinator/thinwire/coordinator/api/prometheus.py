"""The coordinator's figures in Prometheus' text format: base units, `_total` for counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from thinwire.coordinator.serve.figures import Gauges
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LEDGER_KINDS

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

    def _counters(self) -> Iterator[Metric]:
        wire = CounterMetricFamily(
            "thinwire_wire_bytes", "Bytes on the wire, headers included.", labels=["direction", "kind"]
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
