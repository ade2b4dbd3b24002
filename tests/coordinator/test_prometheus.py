"""Prometheus' figures can be read by Prometheus and are those they were made of."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from thinwire.coordinator.api.prometheus import VERSION, exposition
from thinwire.coordinator.runs.tally import Durations
from thinwire.coordinator.serve.figures import Gauges, RunFigures
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LEDGER_KINDS


def _lasted() -> Durations:
    found = Durations()
    for seconds in (0.5, 1.0, 1.5, 10**9):
        found.add(seconds)
    return found


RUN = RunFigures("night", "fedavg", "running", 3, 9, 0.75, 0.5, {"accepted": 7}, 1.7e9, _lasted())


GAUGES = Gauges(
    runs={"running": 2, "paused": 0},
    parked_clients=5,
    open_exchanges=1,
    disk_bytes={"payloads": 12},
    wire={"answer": Bytes(1, 900, 100, 0, 50), "idle": Bytes(1, 0, 7, 0, 3)},
    each_run=[RUN, replace(RUN, name="new", accuracy=None, answered_at=None)],
)


def test_counters_and_gauges() -> None:
    families = {one.name: one for one in text_string_to_metric_families(exposition(GAUGES).decode())}
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
    assert values["thinwire_build_info", ("version", VERSION), ("wire", "1")] == 1
    night = ("run", "night")
    assert values["thinwire_run_state", night, ("state", "running")] == 1
    assert (values["thinwire_run_round", night], values["thinwire_run_rounds", night]) == (3, 9)
    assert values["thinwire_run_accuracy", night] == 0.75
    assert values["thinwire_last_answer_timestamp_seconds", night] == 1.7e9
    # What is not known is not there: no number would be true.
    assert not {"thinwire_run_accuracy", "thinwire_last_answer_timestamp_seconds"} & {
        name[0] for name in values if ("run", "new") in name
    }
    assert values["thinwire_answers_total", ("outcome", "accepted"), night] == 7
    assert values["thinwire_answers_total", ("outcome", "declined"), night] == 0
    buckets = [values["thinwire_exchange_seconds_bucket", ("le", bound), night] for bound in ("1.0", "5.0", "+Inf")]
    assert buckets == [2, 3, 4]
    assert values["thinwire_exchange_seconds_count", night] == 4
    assert not [labels for _, *labels in values if "client" in dict(labels)]
    assert all(one.documentation for one in families.values())
