"""Bytes by run, client, exchange and kind, as the transport counted them; the store keeps what `drain` gives."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LedgerKind, LedgerRow

from .wire.accounting import Account, Key

_NOTHING = Bytes()


class Ledger:
    """Rows, and sums of them that answer in constant time. One event loop uses it."""

    def __init__(self) -> None:
        self._rows: defaultdict[Key, Bytes] = defaultdict(Bytes)
        self._fresh: defaultdict[Key, Bytes] = defaultdict(Bytes)
        self._exchanges: defaultdict[str, defaultdict[int | None, Bytes]] = defaultdict(lambda: defaultdict(Bytes))
        # Run -> sums of the exchanges before the 0th, 1st, ...; as far as they have been asked for and still hold.
        self._before: defaultdict[str, list[Bytes]] = defaultdict(lambda: [_NOTHING])
        self._clients: defaultdict[str, Bytes] = defaultdict(Bytes)
        self._members: defaultdict[str, set[str]] = defaultdict(set)
        self._kinds: defaultdict[LedgerKind, Bytes] = defaultdict(Bytes)
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

    def record(self, key: Key, value: Bytes) -> None:
        """Adds to the row of this key and remembers the difference for `drain`."""
        self._add(key, value)
        self._fresh[key] += value

    def charge(self, account: Account, uplink: int, downlink: int, seconds: float) -> None:
        """Records one request: `uplink` and `downlink` bytes as the transport counted them, headers included."""
        for key, value in account.split(uplink, downlink, seconds):
            self.record(key, value)

    def load(self, rows: Iterable[tuple[Key, Bytes]]) -> None:
        """Adds rows that are in the store already."""
        for key, value in rows:
            self._add(key, value)

    def drain(self) -> list[tuple[Key, Bytes]]:
        """What has been recorded since the last call, as differences to add to the stored rows."""
        fresh = list(self._fresh.items())
        self._fresh.clear()
        return fresh

    def undrain(self, rows: Iterable[tuple[Key, Bytes]]) -> None:
        """Takes back what `drain` gave and could not be stored: the next `drain` gives it again."""
        for key, value in rows:
            self._fresh[key] += value

    def _add(self, key: Key, value: Bytes) -> None:
        run, client, exchange, kind = key
        self._rows[key] += value
        self._exchanges[run][exchange] += value
        if exchange is not None and run in self._before:
            del self._before[run][exchange + 1 :]
        self._clients[client] += value
        self._kinds[kind] += value
        if client:
            self._members[run].add(client)

    # -- questions --------------------------------------------------------------------------------------------

    def run(self, run: str) -> Bytes:
        """All bytes that belong to this run."""
        return Bytes.sum(self._exchanges[run].values()) if run in self._exchanges else _NOTHING

    def exchange(self, run: str, exchange: int) -> Bytes:
        """All bytes of one exchange of this run."""
        return self._exchanges[run].get(exchange, _NOTHING) if run in self._exchanges else _NOTHING

    def before(self, run: str, exchange: int) -> Bytes:
        """All bytes of the run's exchanges before this one: what its broadcast had cost when it was complete."""
        if run not in self._exchanges:
            return _NOTHING
        sums = self._before[run]
        while len(sums) <= exchange:
            sums.append(sums[-1] + self.exchange(run, len(sums) - 1))
        return sums[exchange]

    def client(self, client: str) -> Bytes:
        """All bytes of one client, of whatever run."""
        return self._clients.get(client, _NOTHING)

    def kind(self, kind: LedgerKind) -> Bytes:
        """All bytes of one kind since the coordinator's first start."""
        return self._kinds.get(kind, _NOTHING)

    def clients(self, run: str) -> list[str]:
        """The clients that have spent bytes on this run, sorted."""
        return sorted(self._members.get(run, ()))

    def rows(self, run: str, places: Mapping[int, tuple[int, int]]) -> list[LedgerRow]:
        """The run's rows, and those of its clients that belong to no run (enrolment, connections, idle polls).

        `places`: exchange -> round and step.
        """
        members = self._members.get(run, set())
        mine = [key for key in self._rows if key[0] == run or (not key[0] and key[1] in members)]
        mine.sort(key=lambda key: (key[1], -1 if key[2] is None else key[2], key[3]))
        return [_row(key, self._rows[key], places) for key in mine]


def _row(key: Key, value: Bytes, places: Mapping[int, tuple[int, int]]) -> LedgerRow:
    run, client, exchange, kind = key
    round_, step = (None, None) if exchange is None else places.get(exchange, (None, None))
    return LedgerRow(
        run=run,
        client=client,
        exchange=exchange,
        round=round_,
        step=step,
        kind=kind,
        requests=value.requests,
        uplink_payload_bytes=value.uplink_payload,
        uplink_framing_bytes=value.uplink_framing,
        downlink_payload_bytes=value.downlink_payload,
        downlink_framing_bytes=value.downlink_framing,
        resumed_bytes=value.resumed,
        seconds=value.seconds,
    )
