"""Prometheus' figures can be read by Prometheus and are those of the ledger."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from thinwire.coordinator.ledger import Ledger
from thinwire.coordinator.prometheus import Gauges, exposition
from thinwire.coordinator.wire.accounting import Account
from thinwire.protocol.messages import LEDGER_KINDS


def test_counters_and_gauges() -> None:
    ledger = Ledger()
    ledger.charge(Account(kind="answer", uplink_payload=900), 1000, 50, 0.1)
    ledger.charge(Account(kind="idle"), 7, 3, 0.1)
    gauges = Gauges(runs={"running": 2, "paused": 0}, parked_clients=5, open_exchanges=1, disk_bytes={"payloads": 12})
    families = {one.name: one for one in text_string_to_metric_families(exposition(ledger, gauges).decode())}
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
