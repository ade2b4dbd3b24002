"""Requests to one coordinator: thin, counted, repeated until they succeed or cannot.

httpcore and not httpx, whose connection pool it is: httpx adds headers to every request and hides the socket.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpcore
from pydantic import BaseModel

from thinwire.protocol.encoding import MSGPACK, decode_message, encode_message
from thinwire.protocol.messages import MAX_INLINE_BYTES, MAX_MESSAGE_BYTES
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.short import Known, decode_short, encode_short

from .proxies import BadProxyError, connections, proxy_for, refusal, url_of
from .replies import BadPeerError, Headers, Reply, StrangerError, check, read_reply
from .sockets import CountingBackend, UntrustedError

_LONGEST_WAIT_S: Final = 60.0
_LARGEST_BODY: Final = MAX_MESSAGE_BYTES + MAX_INLINE_BYTES

UNHEARD: Final = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)
"""A connection that could not be made, broke, or brought nothing in time."""

MessageT = TypeVar("MessageT", bound=BaseModel)
ResultT = TypeVar("ResultT")
Body = bytes | Iterator[bytes] | None


class UnreachableError(Exception):
    """No coordinator has answered for as long as the user wants to wait."""


class BrokenError(Exception):
    """The same message has broken off too often: perhaps it is too long for this link."""


@dataclass(frozen=True, slots=True)
class Patience:
    """`stalled_after_s`: without one byte, after which a transfer is cut and goes on where it stopped; one that moves
    is never cut. `give_up_after_s`: without any answer; None: never. `first_wait_s`: the longest first pause.
    """

    stalled_after_s: float = 60.0
    give_up_after_s: float | None = None
    first_wait_s: float = 0.5


class AgainError(Exception):
    """An attempt has found what was in its way, and cleared it: the next one may succeed."""


class Transfer:
    """`hindered`: hears why there is no answer, and, by "", that there is one again.

    Raises, from every call: `UnreachableError`, `BadPeerError`, `ProblemError` for what repeating cannot help.
    """

    def __init__(
        self,
        address: str,
        backend: CountingBackend,
        *,
        rng: Random,
        say: Callable[[str], None],
        patience: Patience | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        hindered: Callable[[str], None] = lambda _: None,
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise BadPeerError(f"{address!r} is not an address such as https://coordinator.example:8750")
        self.address = address.rstrip("/")
        self.backend = backend
        self.patience = patience or Patience()
        self.sleep = sleep
        self._host = parts.netloc
        self._token = ""
        self._known = False
        self._rng = rng
        self._say = say
        self._clock = clock
        self._silent_since: float | None = None
        self._hindered = hindered
        try:
            proxy = proxy_for(parts.scheme, parts.hostname)
        except BadProxyError as error:
            raise BadPeerError(str(error)) from None
        # What messages call the way.
        self._way = self.address + ("" if proxy is None else f" through the proxy {proxy.place}")
        self._pool = connections(proxy, backend, tls)

    def use_token(self, token: str, *, known: bool = True) -> None:
        """`known`: the token is of this address, so a coordinator lives here: whatever else answers will pass."""
        self._token = token
        self._known = self._known or known

    @property
    def known(self) -> bool:
        """Whether a coordinator is known to live at this address."""
        return self._known

    def hang_up(self) -> None:
        """Closes the connections; the next request opens one."""
        self._pool.close()

    def close(self) -> None:
        """Nothing is asked any more."""
        self._pool.close()

    def call(
        self,
        method: str,
        path: str,
        kind: type[MessageT] | None = None,
        message: BaseModel | None = None,
        *,
        patient_s: float = 0.0,
        unless: Collection[str] = (),
        breaks: int | None = None,
    ) -> tuple[int, MessageT | None, Reply]:
        """`ask`, repeated as `persist` says."""
        return self.persist(
            lambda: self.ask(method, path, kind, message, patient_s=patient_s), unless=unless, breaks=breaks
        )

    def ask(
        self,
        method: str,
        path: str,
        kind: type[MessageT] | None = None,
        message: BaseModel | None = None,
        *,
        patient_s: float = 0.0,
        short: Known | None = None,
    ) -> tuple[int, MessageT | None, Reply]:
        """A control message and its answer: status, the message (None on an empty body), the reply.

        `patient_s`: how long the coordinator may take beyond `stalled_after_s`. `short`: both in the short form, and
        what both ends know of a next task. Raises: also `UNHEARD`.
        """
        body = None if message is None else encode_message(message) if short is None else encode_short(message)
        headers = {} if body is None or short is not None else {"Content-Type": MSGPACK}
        if body is None and kind is not None:
            headers["Accept"] = MSGPACK
        with self.open(method, path, headers, body, patient_s=patient_s) as response:
            reply = read_reply(response, _LARGEST_BODY)
        check(reply)
        found = None
        if kind is not None and reply.body:
            found = (
                decode_message(kind, reply.body, max_bytes=_LARGEST_BODY)
                if short is None
                else decode_short(kind, reply.body, short)
            )
        self.answered()
        return reply.status, found, reply

    def persist(
        self,
        attempt: Callable[[], ResultT],
        *,
        unless: Collection[str] = (),
        breaks: int | None = None,
        reached: Callable[[], int] = lambda: 0,
    ) -> ResultT:
        """What `attempt` returns, made again where that helps; pauses grow, with full jitter, or as Retry-After says.

        `unless`: reasons that the same request would only meet again. `breaks`: how often a connection that had been
        made may break; None: for ever. `reached`: how far the work has come: what moves goes on at once, however often
        it is cut.

        Raises: `ProblemError` of a reason that repeating cannot help, or that is in `unless`; `BrokenError`; and, where
        no coordinator is known to live at this address, `StrangerError` and `UntrustedError`, but for a certificate
        that is not valid yet: a device that has just started may not know what time it is.
        """
        tries = broken = 0
        asked_s: float | None = None
        stood = reached()
        while True:
            try:
                result = attempt()
            except UNHEARD as error:
                broken += not isinstance(error, (httpcore.ConnectError, httpcore.ConnectTimeout))
                why, asked_s = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, None
                if broken == breaks:
                    raise BrokenError(why) from None
            except AgainError as error:
                why, asked_s = str(error), None
            except (StrangerError, UntrustedError) as error:
                if not self._known and not (isinstance(error, UntrustedError) and error.early):
                    raise
                why, asked_s = str(error), None
            except ProblemError as error:
                if not error.retry or error.reason in unless:
                    raise
                why, asked_s = str(error), error.retry_after_s
            else:
                return result
            before, stood = stood, reached()
            if stood > before:
                self.answered()
                tries = 0
            else:
                tries += 1
                self.pause(tries, why, asked_s)

    def pause(self, tries: int, why: str, asked_s: float | None = None) -> None:
        """Waits before the next attempt: full jitter (Brooker, "Exponential Backoff and Jitter", 2015).

        Raises: `UnreachableError`.
        """
        self.unheard(why)
        longest = min(_LONGEST_WAIT_S, self.patience.first_wait_s * 2 ** min(tries - 1, 20))
        wait = self._rng.uniform(0, longest)
        if asked_s is not None:
            wait = asked_s + self._rng.uniform(0, self.patience.first_wait_s)
        if tries in (1, 5) or tries % 20 == 0:
            self._say(f"{self._way}: {why}; trying again")
        self.sleep(wait)

    def unheard(self, why: str) -> None:
        """There was no answer. Raises: `UnreachableError`, where there has been none for too long."""
        self._hindered(f"{self._way}: {why}")
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
        limit = self.patience.give_up_after_s
        if limit is not None and now - self._silent_since >= limit:
            raise UnreachableError(f"{self._way}: {why}; gave up after {limit:g} s")

    def answered(self) -> None:
        """The coordinator is there: what follows is a new outage."""
        self._silent_since = None
        self._known = True
        self._hindered("")

    @contextmanager
    def open(
        self, method: str, path: str, headers: Headers, body: Body = None, *, patient_s: float = 0.0
    ) -> Iterator[httpcore.Response]:
        """One request as it is; the response's body is still to be read."""
        sent = [("Host", self._host)]
        if self._token:
            sent.append(("Authorization", f"Bearer {self._token}"))
        sent += headers.items()
        if isinstance(body, bytes) or (body is None and method in ("POST", "PATCH", "PUT")):
            sent.append(("Content-Length", str(len(body or b""))))
        stalled = self.patience.stalled_after_s
        limits = {"connect": stalled, "write": stalled, "read": stalled + patient_s, "pool": stalled}
        address = url_of(self.address + path)
        asked = {"timeout": limits}
        try:
            with self._pool.stream(method, address, headers=sent, content=body, extensions=asked) as response:
                yield response
        except httpcore.ProxyError as error:
            raise refusal(error) from None
