"""Tables of a run: its rounds, what else its clients have measured, and the ledger as an operator reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from thinwire.machine.quantities import in_bytes
from thinwire.methods.progress import DIVERGING
from thinwire.methods.rounds import Round, evaluation_of, own_score
from thinwire.methods.values import EVALUATE
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LEDGER_KINDS, BestModel, ExchangeMetrics, Ledger, LedgerRow, RunView

from .console import in_bits, in_count, in_figure, in_percent
from .sheet import Sheet

ROUND_COLUMNS: Final = ("round", "accuracy", "loss", "up", "down", "bits/param", "framing", "total", "time")
LEDGER_COLUMNS: Final = (
    "client", "kind", "requests", "up payload", "up framing", "down payload", "down framing", "resumed", "wire bytes",
)  # fmt: skip
NOBODY: Final = "(no client)"
NOT_FINITE: Final = "NaN"
_KNOWN: Final = frozenset({"accuracy", "loss", "examples", "seconds", DIVERGING})
"""What has a column, or a warning, of its own."""


def round_cells(one: Round, parameters: int) -> tuple[str, ...]:
    """One row, in the order of `ROUND_COLUMNS`. Bits per parameter: of payload, up/down, for each answer."""
    accuracy, loss = (
        NOT_FINITE if one.lost and found is None else in_figure(found) for found in (one.accuracy, one.loss)
    )
    if one.round == 0:
        return ("start", accuracy, loss, *[""] * (len(ROUND_COLUMNS) - 3))
    cost = one.cost
    return (
        str(one.round),
        accuracy,
        loss,
        in_bytes(cost.uplink),
        in_bytes(cost.downlink),
        in_bits(*one.bits_per_parameter(parameters)),
        in_percent(cost.framing, cost.wire),
        in_bytes(one.total_bytes),
        f"{cost.seconds:.1f} s" if cost.seconds else "",
    )


def score_of(view: RunView) -> str | None:
    """The score of the task's own that stands in the place of accuracy, where the run's `best` names one."""
    return own_score(view.settings.get("best"))


def round_columns(score: str | None) -> tuple[str, ...]:
    """The headings of rounds, with this score in the place of accuracy."""
    return tuple(score if score and name == "accuracy" else name for name in ROUND_COLUMNS)


def round_table(
    rounds: Sequence[Round], parameters: int, *, last: int | None = None, score: str | None = None
) -> Sheet:
    """All rounds, or the last so many. Accuracy, or this score, and loss are of the model that the round made."""
    made = Sheet(None, round_columns(score), spare=("bits/param", "framing", "loss"))
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


def measure_table(exchanges: Iterable[ExchangeMetrics]) -> Sheet | None:
    """`measures` as a table; None where there is nothing."""
    columns, rows = measures(exchanges)
    if not rows:
        return None
    made = Sheet("measured by the clients", columns, text=("exchange",), keys=2)
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


def best_line(best: BestModel) -> str:
    """The best model in words."""
    made = f"after round {best.round}" if best.round else "the first model"
    return f"best by {best.score}: {best.value:.4g}, {made}"


def total(rows: Iterable[LedgerRow]) -> Bytes:
    """All rows together."""
    return Bytes.sum(
        Bytes(
            row.requests,
            row.uplink_payload_bytes,
            row.uplink_framing_bytes,
            row.downlink_payload_bytes,
            row.downlink_framing_bytes,
            row.resumed_bytes,
            row.seconds,
        )
        for row in rows
    )


def by_client_and_kind(rows: Iterable[LedgerRow]) -> Mapping[tuple[str, str], Bytes]:
    """(client, kind) -> bytes, clients by name, kinds in the order of the protocol."""
    found: defaultdict[tuple[str, str], list[LedgerRow]] = defaultdict(list)
    for row in rows:
        found[row.client or NOBODY, row.kind].append(row)
    kinds: list[str] = list(LEDGER_KINDS)
    ordered = sorted(found.items(), key=lambda item: (item[0][0], kinds.index(item[0][1])))
    return {key: total(mine) for key, mine in ordered}


def ledger_cells(of: Bytes) -> tuple[str, ...]:
    """The figures of a row, in the order of `LEDGER_COLUMNS`."""
    counts = (
        of.requests, of.uplink_payload, of.uplink_framing, of.downlink_payload, of.downlink_framing, of.resumed,
        of.wire,
    )  # fmt: skip
    return tuple(in_count(count) for count in counts)


def kind_table(ledger: Ledger) -> Sheet:
    """Bytes by client and kind, and their sum."""
    made = Sheet("wire bytes by client and kind", LEDGER_COLUMNS, text=("client", "kind"), keys=2)
    shown = ""
    for (client, kind), of in by_client_and_kind(ledger.rows).items():
        made.add_row(client if client != shown else "", kind, *ledger_cells(of))
        shown = client
    made.add_section()
    made.add_row("all", "", *ledger_cells(total(ledger.rows)))
    return made


def link_table(ledger: Ledger) -> Sheet:
    """What each client's kernel has counted up to its last answer, and what the coordinator counted in all.

    `unaccounted`: kernel less coordinator; it is negative for bytes that came after the client's last report.
    """
    columns = ("client", "kernel sent", "counted up", "unaccounted", "kernel received", "counted down", "unaccounted ")
    made = Sheet("links: the clients' kernels beside the coordinator, whole lifetime", columns, text=("client",))
    for link in ledger.links:
        counts = (
            link.sent_bytes, link.uplink_bytes, link.sent_bytes - link.uplink_bytes,
            link.received_bytes, link.downlink_bytes, link.received_bytes - link.downlink_bytes,
        )  # fmt: skip
        made.add_row(link.client, *(in_count(count) for count in counts))
    return made


def counted(unaccounted_bytes: int | None) -> str:
    """How far the bytes of a result can be trusted. `unaccounted_bytes`: None where nothing crossed a network."""
    if unaccounted_bytes is None:
        return "played without a network: payloads as the codecs made them, framing and seconds of transfers foretold"
    return f"unaccounted: {unaccounted_bytes} B between the clients' kernels and the ledger"
