"""What the clients' own kernels have counted, beside what the ledger has of them; and what it lacks, as a row.

A client says its counts with each answer. What they have beyond the ledger at that moment did cross, and nobody has
charged it: a coordinator was killed before it could, or a proxy's other side carries more than this one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Executable, case, select

from thinwire.coordinator.wire.accounting import Key
from thinwire.protocol.bytes import Bytes

from .database import upsert_in
from .tables import links

MOST_BYTES: Final = 1 << 50
"""No link has carried more: who claims it is not believed, and sums stay numbers that a database can hold."""
SETTLED_S: Final = 1.5
"""How old counts are compared where several processes charge: by then each has stored what it had charged before."""
_AT_ONCE: Final = 500
_NOTHING: Final = 0, 0
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Counts:
    """What a client has said at `at`, Unix seconds. `charged`: its bytes up and down that this process had charged by
    then.
    """

    sent: int
    received: int
    charged: Pair
    at: float


class Links:
    """What this process has charged to each client, and what it has heard of their links that is not stored yet.
    `settled_s`: how old counts are compared.
    """

    def __init__(self, settled_s: float) -> None:
        self._settled_s = settled_s
        self.fresh: dict[str, Pair] = {}
        """The newest counts of clients, both never going back."""
        self._charged: defaultdict[str, Pair] = defaultdict(lambda: _NOTHING)
        # The oldest counts that have not been compared, and the newest, by client.
        self._said: dict[str, list[Counts]] = {}

    def charge(self, client: str, value: Bytes) -> None:
        """Bytes that the ledger has been told of."""
        if client:
            up, down = self._charged[client]
            self._charged[client] = up + value.uplink, down + value.downlink

    def charged(self, client: str) -> Pair:
        return self._charged.get(client, _NOTHING)

    def say(self, client: str, counts: Counts) -> None:
        self.keep(client, (counts.sent, counts.received))
        if max(counts.sent, counts.received) <= MOST_BYTES:
            self._said[client] = [*self._said.get(client, ())[:1], counts]

    def keep(self, client: str, counts: Pair) -> None:
        """To be stored; an older report that comes later changes nothing."""
        before = self.fresh.get(client, _NOTHING)
        self.fresh[client] = max(before[0], counts[0]), max(before[1], counts[1])

    def settled(self, now: float) -> dict[str, tuple[Counts, Pair]]:
        """Counts that can be compared now, and what has been charged to their clients since; each is given once."""
        found = {}
        for client, said in list(self._said.items()):
            if 0 <= now - said[0].at < self._settled_s:
                continue
            counts = said.pop(0)
            if not said:
                del self._said[client]
            up, down = self._charged[client]
            found[client] = counts, (up - counts.charged[0], down - counts.charged[1])
        return found

    def put_back(self, settled: Mapping[str, tuple[Counts, Pair]]) -> None:
        """These could not be compared."""
        for client, (counts, _) in settled.items():
            self._said[client] = [counts, *self._said.get(client, ())[-1:]]


def add_to_clients(connection: Connection, fresh: Iterable[tuple[Key, Bytes]]) -> None:
    """What the ledger's rows grow by, added to what it has of each client."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (_, client, _, _), value in fresh:
        if client:
            sums[client][0] += value.uplink
            sums[client][1] += value.downlink
    if sums:
        rows = [_link(client, uplink_bytes=up, downlink_bytes=down) for client, (up, down) in sums.items()]
        connection.execute(_adding(connection.dialect.name), rows)


def keep_counts(connection: Connection, told: Mapping[str, Pair]) -> None:
    """What clients have said; an older report changes nothing."""
    if told:
        rows = [_link(client, sent_bytes=sent, received_bytes=got) for client, (sent, got) in told.items()]
        connection.execute(_keeping(connection.dialect.name), rows)


def missing(connection: Connection, settled: Mapping[str, tuple[Counts, Pair]]) -> dict[Key, Bytes]:
    """What the ledger lacks of what these clients' kernels have counted, once all that this process had charged is in
    it.
    """
    found: dict[Key, Bytes] = {}
    names = list(settled)
    for start in range(0, len(names), _AT_ONCE):
        some = links.c.client.in_(names[start : start + _AT_ONCE])
        query = select(links.c.client, links.c.uplink_bytes, links.c.downlink_bytes).where(some)
        for client, up, down in connection.execute(query):
            counts, since = settled[client]
            lacking = max(0, counts.sent - (up - since[0])), max(0, counts.received - (down - since[1]))
            if lacking != _NOTHING:
                # Of no run: budgets do not rest on what a client says.
                found["", client, None, "unaccounted"] = Bytes(uplink_framing=lacking[0], downlink_framing=lacking[1])
    return found


def _link(client: str, **counts: int) -> dict[str, Any]:
    return {
        "client": client, "sent_bytes": 0, "received_bytes": 0, "uplink_bytes": 0, "downlink_bytes": 0, **counts
    }  # fmt: skip


@cache
def _adding(dialect: str) -> Executable:
    new = upsert_in(dialect, links)
    counts = (links.c.uplink_bytes, links.c.downlink_bytes)
    return new.on_conflict_do_update(
        index_elements=["client"], set_={one.name: one + new.excluded[one.name] for one in counts}
    )


@cache
def _keeping(dialect: str) -> Executable:
    link = upsert_in(dialect, links)
    counts = [(links.c[name], link.excluded[name]) for name in ("sent_bytes", "received_bytes")]
    later = {old.name: case((now > old, now), else_=old) for old, now in counts}
    return link.on_conflict_do_update(index_elements=["client"], set_=later)
