"""Prometheus' figures can be read by Prometheus and are those they were made of."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from thinwire.coordinator.api.prometheus import exposition
from thinwire.coordinator.serve.figures import Gauges
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LEDGER_KINDS


def test_counters_and_gauges() -> None:
    gauges = Gauges(
        runs={"running": 2, "paused": 0},
        parked_clients=5,
        open_exchanges=1,
        disk_bytes={"payloads": 12},
        wire={"answer": Bytes(1, 900, 100, 0, 50), "idle": Bytes(1, 0, 7, 0, 3)},
    )
    families = {one.name: one for one in text_string_to_metric_families(exposition(gauges).decode())}
    values = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for one in families.values()
        for sample in one.samples
    }

    def wire(direction: str, kind: str) -> float:
        return values["thinwire_wire_bytes_total", ("direction", direction), ("kind", kind)]

    assert (wire("uplink", "answer"), wire("downlink", "answer")) == (1000, 50)
    assert (wire("uplink", "idle"), wire("downlink", "idle")) == (7, 3)
    assert len(families["thinwire_wire_bytes"].samples) == 2 * len(LEDGER_KINDS)
    assert values["thinwire_payload_bytes_total", ("direction", "uplink"), ("kind", "answer")] == 900
    assert values["thinwire_requests_total", ("kind", "answer")] == 1
    assert values["thinwire_runs", ("state", "running")] == 2
    assert values[("thinwire_parked_clients",)] == 5
    assert values[("thinwire_open_exchanges",)] == 1
    assert values["thinwire_disk_bytes", ("folder", "payloads")] == 12
    assert all(one.documentation for one in families.values())
