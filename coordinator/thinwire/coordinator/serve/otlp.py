"""Spans, handed to OpenTelemetry's SDK and sent by it over OTLP/HTTP. Needs `thinwire[otlp]`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

_PATH: Final = "/v1/traces"
Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """`trace`, `name`: what its ids follow from; `within`: the name of the span around it. `began_at`, `ended_at`: Unix
    seconds; `error`: what went wrong.
    """

    trace: str
    name: str
    title: str
    began_at: float
    ended_at: float
    within: str | None
    said: Mapping[str, Value]
    error: str | None = None


class _Given(IdGenerator):  # type: ignore[misc]
    """Ids that follow from names: told again, a span is the same one, whoever tells it."""

    def __init__(self) -> None:
        self.trace = self.span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


class Sending:
    """`url`: of an OTLP/HTTP receiver, as http://127.0.0.1:4318; the SDK's environment variables say the rest, headers
    for one. Spans that cannot be sent within its patience are dropped, and it says so in the log.
    """

    def __init__(self, url: str, version: str) -> None:
        self._ids = _Given()
        resource = Resource.create({"service.name": "thinwire", "service.version": version})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url.rstrip("/") + _PATH)))
        self._tracer = self._provider.get_tracer("thinwire.coordinator")

    def send(self, span: Span) -> None:
        """Queued; it is sent in another thread."""
        trace, around = _id(span.trace, 16), None
        if span.within is not None:
            parent = SpanContext(trace, _id(f"{span.trace}/{span.within}", 8), False, TraceFlags(TraceFlags.SAMPLED))
            around = set_span_in_context(NonRecordingSpan(parent))
        self._ids.trace, self._ids.span = trace, _id(f"{span.trace}/{span.name}", 8)
        made = self._tracer.start_span(
            span.title, around, attributes=dict(span.said), start_time=_ns(span.began_at)
        )  # fmt: skip
        if span.error is not None:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(_ns(max(span.began_at, span.ended_at)))

    def close(self) -> None:
        """What is queued is sent first."""
        self._provider.shutdown()


def _id(name: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:size], "big") or 1


def _ns(at: float) -> int:
    return round(at * 1e9)
