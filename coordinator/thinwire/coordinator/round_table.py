"""The table of rounds: what a run has learned and what it has cost; and what else its clients have measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from thinwire.methods.values import EVALUATE
from thinwire.protocol.messages import ExchangeMetrics

from .console import in_bytes, in_figure, in_percent, table
from .rounds import Round, evaluation_of

COLUMNS = ("round", "accuracy", "loss", "up", "down", "bits/param", "framing", "total", "time")
_KNOWN = frozenset({"accuracy", "loss", "examples", "seconds"})


def in_bits(up: float, down: float) -> str:
    """Up and down, two digits each: `0.37/1.4`."""
    return f"{up:.2g}/{down:.2g}"


def round_cells(one: Round, parameters: int) -> tuple[str, ...]:
    """One row, in the order of `COLUMNS`. Bits per parameter: of payload, up/down, for each answer."""
    if one.round == 0:
        return ("start", in_figure(one.accuracy), in_figure(one.loss), *[""] * (len(COLUMNS) - 3))
    return (
        str(one.round),
        in_figure(one.accuracy),
        in_figure(one.loss),
        in_bytes(one.uplink_bytes),
        in_bytes(one.downlink_bytes),
        in_bits(*one.bits_per_parameter(parameters)),
        in_percent(one.framing_bytes, one.wire_bytes),
        in_bytes(one.total_bytes),
        f"{one.seconds:.1f} s",
    )


def round_table(rounds: Sequence[Round], parameters: int, *, last: int | None = None) -> Table:
    """All rounds, or the last so many. Accuracy and loss are of the model that the round made."""
    made = table(None, COLUMNS)
    for one in rounds if last is None else rounds[-last:]:
        made.add_row(*round_cells(one, parameters))
    return made


def measures(exchanges: Iterable[ExchangeMetrics]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of what methods and users measure beside accuracy and loss, exchange by exchange; no rows where
    there is nothing. Means over the answers of an exchange; the one of evaluation is left to `final_measures`.
    """
    found = [(one, _others(one)) for one in exchanges if one.kind != EVALUATE]
    names = sorted({name for _, values in found for name in values})
    rows = [
        (str(one.round), one.kind, *(f"{values[name]:.4g}" if name in values else "" for name in names))
        for one, values in found
        if values
    ]
    return ("round", "exchange", *names), rows


def measure_table(exchanges: Iterable[ExchangeMetrics]) -> Table | None:
    """`measures` as a table; None where there is nothing."""
    columns, rows = measures(exchanges)
    if not rows:
        return None
    made = table("measured by the clients", columns, text=("exchange",))
    for row in rows:
        made.add_row(*row)
    return made


def final_measures(exchanges: Iterable[ExchangeMetrics]) -> str:
    """What was measured beside accuracy and loss after the last round, in words; "" where nothing was."""
    evaluation = evaluation_of(exchanges)
    others = {} if evaluation is None else _others(evaluation)
    return ", ".join(f"{name} {value:.4g}" for name, value in others.items())


def _others(exchange: ExchangeMetrics) -> dict[str, float]:
    return {name: value for name, value in sorted(exchange.metrics.items()) if name not in _KNOWN}
