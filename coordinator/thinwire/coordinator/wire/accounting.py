"""Whom bytes belong to: an `Account` and a `Bill` for each request, and the `Books` that take what was counted."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LedgerKind

Key = tuple[str, str, int | None, LedgerKind]
"""Run, client, exchange, kind. Empty strings and None: nobody or no exchange owns the bytes."""
ACCOUNT: Final = "thinwire.account"
"""The key of the request's `Account` in the ASGI scope."""
_NOTHING: Final = Bytes()


@dataclass(slots=True)
class Share:
    """Downlink bytes of a response that belong to another exchange than the request: a next task on a verdict.

    `payload` and `framing` in bytes as they lie in the body.
    """

    kind: LedgerKind
    run: str
    exchange: int
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
    uplink_payload: int = 0
    downlink_payload: int = 0
    resumed: int = 0
    also: list[Share] = field(default_factory=list)

    def split(self, uplink: int, downlink: int, seconds: float, requests: int = 1) -> list[tuple[Key, Bytes]]:
        """The request's bytes by owner: `uplink` and `downlink` as the transport counted them, headers included.

        A cut transfer carried fewer bytes than its account names; nothing is ever counted that was not on the wire.
        """
        found: list[tuple[Key, Bytes]] = []
        left = downlink
        for share in self.also:
            payload = min(share.payload, left)
            framing = min(share.framing, left - payload)
            left -= payload + framing
            key: Key = (share.run, self.client, share.exchange, share.kind)
            found.append((key, Bytes(downlink_payload=payload, downlink_framing=framing)))
        up, down = min(self.uplink_payload, uplink), min(self.downlink_payload, left)
        own: Key = (self.run, self.client, self.exchange, self.kind)
        return [*found, (own, Bytes(requests, up, uplink - up, down, left - down, self.resumed, seconds))]


class Books(Protocol):
    """Where the transport's bytes go."""

    def record(self, key: Key, value: Bytes) -> None:
        """Adds to the row of this key. A value may be negative, for what was charged too much: rows are sums, and no
        sum is negative.
        """

    def while_open(self, bill: Bill, uncharged: Callable[[], Bytes]) -> AbstractContextManager[None]:
        """A request that is being served; `uncharged` says what it has carried beyond what has been recorded, as
        framing.
        """


class Bill:
    """What one request has been charged: recorded as often as more is known, as differences, until it is right.

    `uplink`, `downlink`: its bytes as the transport counted them, headers included; `missing`: those of them that are
    not known to have crossed. `requests`: how many it stands for.
    """

    __slots__ = ("_books", "_charged", "_ended", "_requests", "_seconds", "account", "downlink", "missing", "uplink")

    def __init__(self, books: Books, account: Account, requests: int = 1) -> None:
        self.account = account
        self.uplink = self.downlink = self.missing = 0
        self._books = books
        self._requests = requests
        self._seconds = 0.0
        self._ended = False
        self._charged: dict[Key, Bytes] = {}

    def end(self, seconds: float) -> None:
        """The request has ended: all that it has carried, as if all of it had crossed."""
        self._ended, self._seconds = True, seconds
        self.charge(0)

    def charge(self, missing: int) -> None:
        """What has crossed, which is all but the last `missing` bytes of the downlink."""
        self.missing = min(missing, self.downlink)
        requests = self._requests if self._ended else 0
        found: dict[Key, Bytes] = {}
        for key, value in self.account.split(self.uplink, self.downlink, self._seconds, requests):
            found[key] = found.get(key, _NOTHING) + value
        left = self.missing
        for key in reversed(found):
            payload = min(left, found[key].downlink_payload)
            framing = min(left - payload, found[key].downlink_framing)
            left -= payload + framing
            found[key] -= Bytes(downlink_payload=payload, downlink_framing=framing)
        for key in {**found, **self._charged}:
            difference = found.get(key, _NOTHING) - self._charged.get(key, _NOTHING)
            if difference != _NOTHING:
                self._books.record(key, difference)
        self._charged = found

    def charged_to(self, client: str) -> Bytes:
        """What of it has been recorded as this client's."""
        return Bytes.sum(value for key, value in self._charged.items() if key[1] == client)


class Scoped(Protocol):
    """A request, as far as its ASGI scope goes."""

    @property
    def scope(self) -> MutableMapping[str, Any]: ...


def account_of(request: Scoped) -> Account:
    """The account of this request, for its endpoint to fill in."""
    account: Account = request.scope[ACCOUNT]
    return account
