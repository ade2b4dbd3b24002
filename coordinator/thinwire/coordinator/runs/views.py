"""Runs and exchanges as operators see them, from their rows."""

from __future__ import annotations

from collections.abc import Sequence

from thinwire.methods.definition import Definition
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import BestModel, ExchangeMetrics, RunView

from .budget import Lowered
from .rows import ExchangeRow, RunRow


def run_view(
    row: RunRow, definition: Definition | None, open_exchange: ExchangeRow | None, troubles: Sequence[str]
) -> RunView:
    """The run. `definition`: None where this version cannot read its settings. `troubles`: what of this machine keeps
    it from going on.
    """
    settings = row.settings
    warnings = None if definition is None else definition.warnings
    return RunView(
        id=row.id,
        name=row.name,
        method=settings.method,
        state=row.state,
        outcome=row.outcome,
        reason=row.reason or next(iter(troubles), None),
        round=min(row.round, settings.rounds),
        step=row.step,
        rounds=settings.rounds,
        exchange=row.exchange,
        answers=0 if open_exchange is None else open_exchange.answers,
        cohort=settings.cohort if open_exchange is None else open_exchange.size,
        parameters=row.parameters,
        model=row.model,
        best=[BestModel(score=one.score, value=one.value, round=one.round) for one in row.best] or None,
        created_at=row.created_at,
        finished_at=row.finished_at,
        warnings=warnings or None,
        lowered=None if open_exchange is None else _lowered(open_exchange),
        left_out=None if open_exchange is None or not open_exchange.left_out else dict(open_exchange.left_out),
        settings=settings.model_dump(mode="json", by_alias=True, exclude_none=True),
    )


def exchange_metrics(row: ExchangeRow, of: Bytes, before: Bytes) -> ExchangeMetrics:
    """A closed exchange. `of`: its wire bytes; `before`: those of all exchanges before it."""
    return ExchangeMetrics(
        exchange=row.exchange,
        round=row.round,
        step=row.step,
        kind=row.kind,
        answers=row.answers,
        offers=row.offers,
        metrics=row.metrics,
        seconds=row.seconds,
        uplink_bytes=of.uplink,
        downlink_bytes=of.downlink,
        uplink_payload_bytes=of.uplink_payload,
        downlink_payload_bytes=of.downlink_payload,
        uplink_bytes_before=before.uplink,
        downlink_bytes_before=before.downlink,
        lowered=_lowered(row),
        staleness=row.staleness,
    )


def _lowered(row: ExchangeRow) -> str | None:
    return Lowered(row.lowered_bits, row.lowered_cohort).said()
