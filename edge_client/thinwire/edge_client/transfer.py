"""Requests to one coordinator: thin, counted, repeated until they succeed or cannot.

httpcore and not httpx, whose connection pool it is: httpx adds headers to every request and hides the socket.
"""

from __future__ import annotations

import ssl
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpcore
from pydantic import BaseModel

from thinwire.protocol.encoding import MSGPACK, decode_message, encode_message
from thinwire.protocol.messages import MAX_INLINE_BYTES, MAX_MESSAGE_BYTES, Problem
from thinwire.protocol.reasons import REASONS, ProblemError

from .sockets import CountingBackend

KEEP_ALIVE_S: Final = 650.0
"""Longer than the longest poll: opening TLS anew for every exchange would cost more than a thin exchange does."""
CONTENT: Final = "application/octet-stream"
_LONGEST_WAIT_S: Final = 60.0
_LARGEST_BODY: Final = MAX_MESSAGE_BYTES + MAX_INLINE_BYTES

MessageT = TypeVar("MessageT", bound=BaseModel)
Headers = Mapping[str, str]
Body = bytes | Iterator[bytes] | None


class UnreachableError(Exception):
    """No coordinator has answered for as long as the user wants to wait."""


class BadPeerError(Exception):
    """Something answers at this address that is not a coordinator, or the address is not one."""


class BrokenError(Exception):
    """The same message has broken off too often: perhaps it is too long for this link."""


class FinishedError(Exception):
    """410: all runs this client could serve are over. `model`: the digest of the final model, if there is one."""

    def __init__(self, detail: str, model: bytes | None) -> None:
        super().__init__(detail)
        self.model = model


@dataclass(frozen=True, slots=True)
class Patience:
    """`stalled_after_s`: without one byte, after which a transfer is cut and goes on where it stopped; one that moves
    is never cut. `give_up_after_s`: without any answer; None: never. `first_wait_s`: the longest first pause.
    """

    stalled_after_s: float = 60.0
    give_up_after_s: float | None = None
    first_wait_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Reply:
    """A response. `headers`: lower-case names."""

    status: int
    headers: Headers
    body: bytes

    @property
    def retry_after_s(self) -> float | None:
        return retry_after(self.headers)


def retry_after(headers: Headers) -> float | None:
    """The seconds of `Retry-After`; None where it is absent, a date, or absurd."""
    try:
        value = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return value if 0 <= value <= 86400 else None


class Transfer:
    """Raises, from every call: `UnreachableError`, `BadPeerError`, `ProblemError` for what repeating cannot help."""

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
        self._rng = rng
        self._say = say
        self._clock = clock
        self._silent_since: float | None = None
        self._pool = _pool(parts.scheme, parts.hostname, backend, tls)

    def use_token(self, token: str) -> None:
        self._token = token

    def close(self) -> None:
        self._pool.close()

    def call(
        self,
        method: str,
        path: str,
        kind: type[MessageT] | None = None,
        message: BaseModel | None = None,
        *,
        patient_s: float = 0.0,
        once: bool = False,
        unless: Collection[str] = (),
        breaks: int | None = None,
    ) -> tuple[int, MessageT | None, Reply]:
        """A control message and its answer: status, the message (None on an empty body), the reply.

        `patient_s`: how long the coordinator may take beyond `stalled_after_s`. `once`: a broken connection is the
        caller's to judge: raises `httpcore` errors. `unless`: reasons that the same request would only meet again.
        `breaks`: as `persist` says.
        """
        body = None if message is None else encode_message(message)
        headers = {} if body is None else {"Content-Type": MSGPACK}
        if body is None and kind is not None:
            headers["Accept"] = MSGPACK

        def attempt() -> Reply:
            with self.open(method, path, headers, body, patient_s=patient_s) as response:
                return Reply(response.status, plain_headers(response), read_bounded(response, _LARGEST_BODY))

        reply = attempt() if once else self.persist(attempt, unless, breaks=breaks)
        if once:
            check(reply)
            self._silent_since = None
        if kind is None or not reply.body:
            return reply.status, None, reply
        return reply.status, decode_message(kind, reply.body, max_bytes=_LARGEST_BODY), reply

    def persist(
        self, attempt: Callable[[], Reply], unless: Collection[str] = (), *, breaks: int | None = None
    ) -> Reply:
        """The first reply that does not invite to try again; pauses grow, with full jitter, or as Retry-After says.

        `breaks`: how often a connection that had been made may break; None: for ever.

        Raises: `ProblemError` of a reason that does not, or that is in `unless`; `BrokenError`.
        """
        tries = broken = 0
        while True:
            try:
                reply = attempt()
                check(reply)
            except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
                tries += 1
                broken += broke(error)
                why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                if broken == breaks:
                    raise BrokenError(why) from None
                self.pause(tries, why)
            except ProblemError as error:
                if not error.retry or error.reason in unless:
                    raise
                tries += 1
                self.pause(tries, str(error), error.retry_after_s)
            else:
                self._silent_since = None
                return reply

    def pause(self, tries: int, why: str, asked_s: float | None = None) -> None:
        """Waits before the next attempt: full jitter (Brooker, "Exponential Backoff and Jitter", 2015).

        Raises: `UnreachableError`.
        """
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
        limit = self.patience.give_up_after_s
        if limit is not None and now - self._silent_since >= limit:
            raise UnreachableError(f"{self.address}: {why}; gave up after {limit:g} s")
        longest = min(_LONGEST_WAIT_S, self.patience.first_wait_s * 2 ** min(tries - 1, 20))
        wait = self._rng.uniform(0, longest)
        if asked_s is not None:
            wait = asked_s + self._rng.uniform(0, self.patience.first_wait_s)
        if tries in (1, 5) or tries % 20 == 0:
            self._say(f"{self.address}: {why}; trying again")
        self.sleep(wait)

    def progressed(self) -> None:
        """The peer is there: what follows is a new outage."""
        self._silent_since = None

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
        address = self.address + path
        with self._pool.stream(method, address, headers=sent, content=body, extensions={"timeout": limits}) as response:
            yield response


def broke(error: Exception) -> bool:
    """Whether this ended a connection, and not just the attempt to make one."""
    return not isinstance(error, (httpcore.ConnectError, httpcore.ConnectTimeout))


def check(reply: Reply) -> None:
    """Raises what an error status means: `ProblemError`, `FinishedError`, `BadPeerError`."""
    if reply.status < 300 or reply.status == 304:
        return
    if reply.status < 400:
        where = reply.headers.get("location", "elsewhere")
        raise BadPeerError(f"the address redirects to {where}, and redirects are not followed")
    problem = _problem(reply)
    if problem is not None:
        if problem.reason == "run-finished":
            raise FinishedError(problem.detail, problem.model)
        raise ProblemError(problem.reason, problem.detail, retry_after_s=reply.retry_after_s)
    # A proxy on the way speaks for a coordinator that is not there.
    if reply.status in (408, 429) or reply.status >= 500:
        raise ProblemError("unavailable", f"status {reply.status}", retry_after_s=reply.retry_after_s)
    raise BadPeerError(f"status {reply.status} without a reason: what answers there is not a coordinator")


def _problem(reply: Reply) -> Problem | None:
    media_type = reply.headers.get("content-type", "").partition(";")[0].strip()
    try:
        problem = decode_message(Problem, reply.body, media_type)
    except ProblemError:
        return None
    return problem if problem.reason in REASONS else None


def plain_headers(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("ascii").lower(): value.decode("latin-1") for name, value in response.headers}


def read_bounded(response: httpcore.Response, most: int) -> bytes:
    """The body. Raises: `BadPeerError` beyond `most` bytes."""
    found = bytearray()
    for piece in response.iter_stream():
        found += piece
        if len(found) > most:
            raise BadPeerError(f"a response of more than {most} bytes")
    return bytes(found)


def _pool(scheme: str, host: str, backend: CountingBackend, tls: ssl.SSLContext | None) -> httpcore.ConnectionPool:
    context = tls or ssl.create_default_context()
    proxy = urllib.request.getproxies().get(scheme)
    if proxy is not None and not urllib.request.proxy_bypass(host):
        return httpcore.HTTPProxy(
            proxy,
            ssl_context=context,
            network_backend=backend,
            max_connections=2,
            keepalive_expiry=KEEP_ALIVE_S,
        )
    return httpcore.ConnectionPool(
        ssl_context=context, network_backend=backend, max_connections=2, keepalive_expiry=KEEP_ALIVE_S
    )
