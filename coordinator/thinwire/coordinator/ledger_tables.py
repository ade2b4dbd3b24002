"""The ledger as an operator reads it: by client and kind, and beside what the clients' kernels counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.table import Table

from thinwire.protocol.messages import LEDGER_KINDS, Ledger, LedgerRow

from .console import table

NOBODY = "(no client)"


@dataclass(slots=True)
class Sums:
    """Bytes of several rows."""

    requests: int = 0
    uplink_payload: int = 0
    uplink_framing: int = 0
    downlink_payload: int = 0
    downlink_framing: int = 0
    resumed: int = 0

    def add(self, row: LedgerRow) -> None:
        self.requests += row.requests
        self.uplink_payload += row.uplink_payload_bytes
        self.uplink_framing += row.uplink_framing_bytes
        self.downlink_payload += row.downlink_payload_bytes
        self.downlink_framing += row.downlink_framing_bytes
        self.resumed += row.resumed_bytes

    @property
    def uplink(self) -> int:
        return self.uplink_payload + self.uplink_framing

    @property
    def downlink(self) -> int:
        return self.downlink_payload + self.downlink_framing

    def cells(self) -> tuple[str, ...]:
        counts = (
            self.requests, self.uplink_payload, self.uplink_framing, self.downlink_payload, self.downlink_framing,
            self.resumed, self.uplink + self.downlink,
        )  # fmt: skip
        return tuple(f"{count:,}".replace(",", " ") for count in counts)


COLUMNS = (
    "client", "kind", "requests", "up payload", "up framing", "down payload", "down framing", "resumed", "wire bytes",
)  # fmt: skip


def by_client_and_kind(rows: Iterable[LedgerRow]) -> Mapping[tuple[str, str], Sums]:
    """(client, kind) -> bytes, clients by name, kinds in the order of the protocol."""
    found: defaultdict[tuple[str, str], Sums] = defaultdict(Sums)
    for row in rows:
        found[row.client or NOBODY, row.kind].add(row)
    kinds: list[str] = list(LEDGER_KINDS)
    return dict(sorted(found.items(), key=lambda item: (item[0][0], kinds.index(item[0][1]))))


def total(rows: Iterable[LedgerRow]) -> Sums:
    """All rows together."""
    sums = Sums()
    for row in rows:
        sums.add(row)
    return sums


def kind_table(ledger: Ledger) -> Table:
    """Bytes by client and kind, and their sum."""
    made = table("wire bytes by client and kind", COLUMNS, text=("client", "kind"))
    shown = ""
    for (client, kind), sums in by_client_and_kind(ledger.rows).items():
        made.add_row(client if client != shown else "", kind, *sums.cells())
        shown = client
    made.add_section()
    made.add_row("all", "", *total(ledger.rows).cells())
    return made


def link_table(ledger: Ledger) -> Table:
    """What each client's kernel has counted up to its last answer, and what the coordinator counted in all.

    `unaccounted`: kernel less coordinator; it is negative for bytes that came after the client's last report.
    """
    columns = ("client", "kernel sent", "counted up", "unaccounted", "kernel received", "counted down", "unaccounted ")
    made = table("links: the clients' kernels beside the coordinator, whole lifetime", columns, text=("client",))
    for link in ledger.links:
        counts = (
            link.sent_bytes, link.uplink_bytes, link.sent_bytes - link.uplink_bytes,
            link.received_bytes, link.downlink_bytes, link.received_bytes - link.downlink_bytes,
        )  # fmt: skip
        made.add_row(link.client, *(f"{count:,}".replace(",", " ") for count in counts))
    return made
