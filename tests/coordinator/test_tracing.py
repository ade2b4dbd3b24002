"""Traces arrive at an OTLP receiver: a round, in it its exchanges, in them the answers, with the times of the rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.coordinator.served import Served
from tests.coordinator.test_policy import clients_of, until
from tests.receiver import Receiver, receiving

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="thinwire[otlp] is not installed")


def _spans(receiver: Receiver) -> list[Any]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found = []
    while not receiver.received.empty():
        received = receiver.next()
        assert received.path == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(received.body)
        for of_resource in request.resource_spans:
            named = {one.key: one.value.string_value for one in of_resource.resource.attributes}
            assert named["service.name"] == "thinwire"
            found += [span for scope in of_resource.scope_spans for span in scope.spans]
    return found


def test_a_round_is_a_trace_of_exchanges_and_answers(serve: Callable[..., Served]) -> None:
    with receiving(Receiver(answer=lambda _: 200)) as receiver:
        served = serve(otlp=receiver.url)
        run = served.run(name="traced", cohort=2, rounds=2, settings={"steps": 2})["id"]

        async def play() -> None:
            async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
                await asyncio.gather(*(client.work() for client in await clients_of(http, served, 2)))
                await until(http, run, lambda view: bool(view["state"] == "finished"))

        asyncio.run(play())
        exchanges = served.get("/v1/runs/traced/metrics").json()["exchanges"]
        served.stop()
        spans = _spans(receiver)
    by_name: dict[str, list[Any]] = {}
    for span in spans:
        by_name.setdefault(span.name, []).append(span)
    assert {name: len(some) for name, some in by_name.items()} == {
        "round": 2, "evaluation": 1, "exchange": 5, "answer": 10,
    }  # fmt: skip
    roots = {span.span_id: span for span in [*by_name["round"], *by_name["evaluation"]]}
    assert len({span.trace_id for span in roots.values()}) == 3
    for span in by_name["exchange"]:
        around = roots[span.parent_span_id]
        assert span.trace_id == around.trace_id
        assert around.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= around.end_time_unix_nano
        said = {one.key: one.value for one in span.attributes}
        told = exchanges[said["thinwire.exchange"].int_value]
        assert said["thinwire.run"].string_value == "traced"
        assert said["thinwire.kind"].string_value == told["kind"]
        assert said["thinwire.metric.loss"].double_value == told["metrics"]["loss"]
        assert said["thinwire.uplink_bytes"].int_value > 0
    inner = {span.span_id: span for span in by_name["exchange"]}
    for span in by_name["answer"]:
        around = inner[span.parent_span_id]
        assert span.start_time_unix_nano == around.start_time_unix_nano
        assert span.start_time_unix_nano < span.end_time_unix_nano <= around.end_time_unix_nano
    names = {one.value.string_value for span in by_name["answer"] for one in span.attributes if "client" in one.key}
    assert names == {"client-00", "client-01"}


def test_a_receiver_that_is_away_keeps_nobody_from_working(serve: Callable[..., Served], free_port: int) -> None:
    served = serve(otlp=f"http://127.0.0.1:{free_port}")
    run = served.run(name="untraced", cohort=1, rounds=1, evaluate=False)["id"]

    async def play() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            (client,) = await clients_of(http, served, 1)
            await client.work()
            view = await until(http, run, lambda view: bool(view["state"] == "finished"))
            assert view["outcome"] == "completed"

    asyncio.run(play())
