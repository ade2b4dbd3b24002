"""What both ways of asking a coordinator share: connections, what an answer must be, events as they are written."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel

from thinwire.protocol.encoding import JSON, decode_message, encode_message
from thinwire.protocol.messages import Problem
from thinwire.protocol.places import find_proxy, without_secrets
from thinwire.protocol.reasons import REASONS, ProblemError

from .access import NoAddressError
from .requests import Request

EVENTS: Final = "text/event-stream"
MAX_RESPONSE_BYTES: Final = 1 << 28
BLOCK_BYTES: Final = 1 << 20
# An event stream may be silent for as long as an exchange takes, but for a heartbeat every 15 seconds.
STREAM_TIMEOUT: Final = httpx.Timeout(30.0, read=90.0)

MessageT = TypeVar("MessageT", bound=BaseModel)


class UnreachableError(Exception):
    """No coordinator answered."""


def options(url: str, token: str | None, ca_file: Path | None) -> tuple[str, dict[str, Any]]:
    """What is said of the coordinator's place in messages, and the keyword arguments of httpx' clients. A proxy of the
    environment is used, but for this machine. Raises: `NoAddressError`.
    """
    where = url
    headers = {"accept": JSON} | ({"authorization": f"Bearer {token}"} if token else {})
    try:
        parts = httpx.URL(url)
        verify = ssl.create_default_context(cafile=ca_file)
        proxy = find_proxy(parts.scheme, parts.host)
        if proxy is not None:
            where += f" through the proxy {without_secrets(proxy)}"
        given = {"base_url": url, "headers": headers, "verify": verify, "timeout": 30.0, "trust_env": False}
        mounted = None if proxy is None else httpx.Proxy(proxy)
        if mounted is not None and mounted.url.scheme not in ("http", "https", "socks5", "socks5h"):
            raise ValueError(f"a proxy of scheme {mounted.url.scheme!r}")
        return where, given | {"proxy": mounted}
    except httpx.InvalidURL as error:
        raise NoAddressError(f"{url}: {error}") from None
    except ValueError as error:
        raise NoAddressError(f"{where}: {error}") from None
    except OSError as error:
        raise NoAddressError(f"{ca_file}: {error}") from None


def check(response: httpx.Response) -> None:
    """Raises: `UnreachableError`: it is no coordinator's; `ProblemError`: what the coordinator says is wrong."""
    if response.is_redirect:
        where = response.headers.get("location", "elsewhere")
        raise UnreachableError(f"{response.url} redirects to {where}: give that address")
    if response.is_error:
        problem = decoded(Problem, response)
        raise ProblemError(problem.reason if problem.reason in REASONS else "bad-request", problem.detail)


def decoded(kind: type[MessageT], response: httpx.Response) -> MessageT:
    """The message in a response. Raises: `UnreachableError`."""
    try:
        return decode_message(kind, response.content, JSON, max_bytes=MAX_RESPONSE_BYTES)
    except ProblemError:
        what = f"{response.url} answers {response.status_code}, but not as a coordinator of this version"
        raise UnreachableError(what) from None


def unreachable(where: str, error: httpx.HTTPError, *, broke: bool = False) -> UnreachableError:
    """In words. `broke`: in the middle of an answer."""
    why = str(error) or type(error).__name__
    return UnreachableError(f"the connection to {where} broke: {why}" if broke else _nobody(where, why))


def _nobody(where: str, why: str) -> str:
    return f"no coordinator answers at {where}: {why}"


def content_of(request: Request[Any]) -> bytes | None:
    """The body that is sent."""
    return None if request.body is None else encode_message(request.body, JSON)


def headers_of(content: Any, headers: dict[str, str] | None, accept: str) -> dict[str, str]:
    """What a request says of its body, and of what it wants back."""
    return {"accept": accept} | ({} if content is None else {"content-type": JSON}) | (headers or {})


def behind(last: int | None) -> dict[str, str]:
    """Of a stream that goes on behind this event."""
    return {"accept": EVENTS} | ({} if last is None else {"last-event-id": str(last)})


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event. `id`: where to go on behind it (`last`), None where it has none."""

    kind: str
    data: str
    id: int | None = None


@dataclass(slots=True)
class EventReader:
    """Lines in, events out: the format of server-sent events (WHATWG HTML, section 9.2.6)."""

    _kind: str = "message"
    _data: list[str] = field(default_factory=list)
    _id: int | None = None

    def read(self, line: str) -> Iterator[Event]:
        """The event that this line completes, if it does."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and value.isdecimal():
            self._id = int(value)
        elif not line and self._data:
            yield Event(self._kind, "\n".join(self._data), self._id)
            self._kind, self._data = "message", []
