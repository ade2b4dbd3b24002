"""Bytes by run, client, exchange and kind, as the transport counted them; the store keeps what `drain` gives."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field

from thinwire.protocol.messages import LedgerKind, LedgerRow

Key = tuple[str, str, int | None, LedgerKind]
"""Run, client, exchange, kind. Empty strings and None: nobody or no exchange owns the bytes."""


@dataclass(slots=True)
class Share:
    """Downlink bytes of a response that belong to another exchange than the request: a next task on a verdict.

    `payload` and `framing` in bytes as they lie in the body.
    """

    kind: LedgerKind
    run: str
    exchange: int
    round: int
    step: int
    payload: int = 0
    framing: int = 0


@dataclass(slots=True)
class Account:
    """Whom one request's bytes belong to: filled in by the endpoint, read when the response has been written.

    `uplink_payload`, `downlink_payload`: the payload bytes in both bodies; the rest of the request is framing.
    `resumed`: payload bytes that an earlier request of the same transfer had already carried.
    """

    kind: LedgerKind = "other"
    run: str = ""
    client: str = ""
    exchange: int | None = None
    round: int | None = None
    step: int | None = None
    uplink_payload: int = 0
    downlink_payload: int = 0
    resumed: int = 0
    also: list[Share] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return (self.run, self.client, self.exchange, self.kind)


@dataclass(slots=True)
class Tally:
    """What a row, or a sum of rows, counts: bytes and seconds."""

    requests: int = 0
    uplink_payload: int = 0
    uplink_framing: int = 0
    downlink_payload: int = 0
    downlink_framing: int = 0
    resumed: int = 0
    seconds: float = 0.0

    @property
    def uplink(self) -> int:
        return self.uplink_payload + self.uplink_framing

    @property
    def downlink(self) -> int:
        return self.downlink_payload + self.downlink_framing

    @property
    def payload(self) -> int:
        return self.uplink_payload + self.downlink_payload

    def add(self, other: Tally) -> None:
        self.requests += other.requests
        self.uplink_payload += other.uplink_payload
        self.uplink_framing += other.uplink_framing
        self.downlink_payload += other.downlink_payload
        self.downlink_framing += other.downlink_framing
        self.resumed += other.resumed
        self.seconds += other.seconds


class Ledger:
    """Rows, and sums of them that answer in constant time. One event loop uses it."""

    def __init__(self) -> None:
        self._rows: dict[Key, Tally] = {}
        self._fresh: dict[Key, Tally] = {}
        self._places: dict[tuple[str, int | None], tuple[int | None, int | None]] = {}
        self._exchanges: defaultdict[str, defaultdict[int | None, Tally]] = defaultdict(lambda: defaultdict(Tally))
        # Run -> sums of the exchanges before the 0th, 1st, ...; as far as they have been asked for and still hold.
        self._before: defaultdict[str, list[Tally]] = defaultdict(lambda: [Tally()])
        self._clients: defaultdict[str, Tally] = defaultdict(Tally)
        self._members: defaultdict[str, set[str]] = defaultdict(set)
        self._kinds: defaultdict[LedgerKind, Tally] = defaultdict(Tally)
        self._open: dict[int, tuple[Account, Callable[[], int]]] = {}

    @contextlib.contextmanager
    def while_open(self, account: Account, uncharged: Callable[[], int]) -> Iterator[None]:
        """A request that is being served: what it has carried so far is charged at its end."""
        self._open[id(account)] = account, uncharged
        try:
            yield
        finally:
            del self._open[id(account)]

    def uncharged(self, run: str, exchanges: Container[int | None]) -> int:
        """Bytes of open requests that belong to these exchanges of a run, as far as it is known."""
        return sum(
            uncharged() for one, uncharged in self._open.values() if one.run == run and one.exchange in exchanges
        )

    def record(self, key: Key, tally: Tally) -> None:
        """Adds to the row of this key and remembers the difference for `drain`."""
        self._add(key, tally)
        self._fresh.setdefault(key, Tally()).add(tally)

    def charge(self, account: Account, uplink: int, downlink: int, seconds: float) -> None:
        """Records one request: `uplink` and `downlink` bytes as the transport counted them, headers included.

        A cut transfer carried fewer bytes than its account names; nothing is ever counted that was not on the wire.
        """
        left = downlink
        for share in account.also:
            payload = min(share.payload, left)
            framing = min(share.framing, left - payload)
            left -= payload + framing
            self._places[share.run, share.exchange] = (share.round, share.step)
            key: Key = (share.run, account.client, share.exchange, share.kind)
            self.record(key, Tally(0, downlink_payload=payload, downlink_framing=framing))
        up, down = min(account.uplink_payload, uplink), min(account.downlink_payload, left)
        if account.exchange is not None:
            self._places[account.run, account.exchange] = (account.round, account.step)
        self.record(account.key, Tally(1, up, uplink - up, down, left - down, account.resumed, seconds))

    def load(self, rows: Iterable[LedgerRow]) -> None:
        """Adds rows that are in the store already."""
        for row in rows:
            if row.exchange is not None:
                self._places[row.run, row.exchange] = (row.round, row.step)
            self._add((row.run, row.client, row.exchange, row.kind), _tally(row))

    def drain(self) -> list[LedgerRow]:
        """What has been recorded since the last call, as differences to add to the stored rows."""
        fresh, self._fresh = self._fresh, {}
        return [self._row(key, tally) for key, tally in fresh.items()]

    def undrain(self, rows: Iterable[LedgerRow]) -> None:
        """Takes back what `drain` gave and could not be stored: the next `drain` gives it again."""
        for row in rows:
            self._fresh.setdefault((row.run, row.client, row.exchange, row.kind), Tally()).add(_tally(row))

    def _add(self, key: Key, tally: Tally) -> None:
        run, client, exchange, kind = key
        self._rows.setdefault(key, Tally()).add(tally)
        self._exchanges[run][exchange].add(tally)
        if exchange is not None and run in self._before:
            del self._before[run][exchange + 1 :]
        self._clients[client].add(tally)
        self._kinds[kind].add(tally)
        if client:
            self._members[run].add(client)

    # -- questions --------------------------------------------------------------------------------------------

    def run(self, run: str) -> Tally:
        """All bytes that belong to this run."""
        return _sum(self._exchanges[run].values()) if run in self._exchanges else Tally()

    def exchange(self, run: str, exchange: int) -> Tally:
        """All bytes of one exchange of this run."""
        return _sum([self._exchanges[run][exchange]] if exchange in self._exchanges.get(run, {}) else [])

    def before(self, run: str, exchange: int) -> Tally:
        """All bytes of the run's exchanges before this one: what its broadcast had cost when it was complete."""
        if run not in self._exchanges:
            return Tally()
        sums = self._before[run]
        while len(sums) <= exchange:
            sums.append(_sum([sums[-1], self.exchange(run, len(sums) - 1)]))
        return _sum([sums[exchange]])

    def client(self, client: str) -> Tally:
        """All bytes of one client, of whatever run."""
        return _sum([self._clients[client]] if client in self._clients else [])

    def kind(self, kind: LedgerKind) -> Tally:
        """All bytes of one kind since the coordinator's first start."""
        return _sum([self._kinds[kind]] if kind in self._kinds else [])

    def clients(self, run: str) -> list[str]:
        """The clients that have spent bytes on this run, sorted."""
        return sorted(self._members.get(run, ()))

    def rows(self, run: str) -> list[LedgerRow]:
        """The run's rows, and those of its clients that belong to no run (enrolment, connections, idle polls)."""
        members = self._members.get(run, set())
        mine = [key for key in self._rows if key[0] == run or (not key[0] and key[1] in members)]
        mine.sort(key=lambda key: (key[1], -1 if key[2] is None else key[2], key[3]))
        return [self._row(key, self._rows[key]) for key in mine]

    def _row(self, key: Key, tally: Tally) -> LedgerRow:
        run, client, exchange, kind = key
        round_, step = self._places.get((run, exchange), (None, None))
        return LedgerRow(
            run=run,
            client=client,
            exchange=exchange,
            round=round_,
            step=step,
            kind=kind,
            requests=tally.requests,
            uplink_payload_bytes=tally.uplink_payload,
            uplink_framing_bytes=tally.uplink_framing,
            downlink_payload_bytes=tally.downlink_payload,
            downlink_framing_bytes=tally.downlink_framing,
            resumed_bytes=tally.resumed,
            seconds=tally.seconds,
        )


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def _tally(row: LedgerRow) -> Tally:
    return Tally(
        row.requests,
        row.uplink_payload_bytes,
        row.uplink_framing_bytes,
        row.downlink_payload_bytes,
        row.downlink_framing_bytes,
        row.resumed_bytes,
        row.seconds,
    )
