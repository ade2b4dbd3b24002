"""What a coordinator replies, and what its statuses mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpcore

from thinwire.protocol.encoding import decode_message
from thinwire.protocol.messages import Problem
from thinwire.protocol.reasons import REASONS, ProblemError

Headers = Mapping[str, str]


class BadPeerError(Exception):
    """Something answers at this address that is not a coordinator, or the address is not one."""


class StrangerError(BadPeerError):
    """What answered is no coordinator. Where one is known to live at this address, something on the way spoke in its
    place: a portal, a firewall, a proxy whose service is away. That passes.
    """


class TooLargeError(StrangerError):
    """413 by something on the way: it lets no body of this size through."""


class FinishedError(Exception):
    """410: all runs this client could serve are over. `model`: the digest of the final model, if there is one."""

    def __init__(self, detail: str, model: bytes | None) -> None:
        super().__init__(detail)
        self.model = model


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


def read_reply(response: httpcore.Response, most: int) -> Reply:
    """The whole reply. Raises: `BadPeerError` for a body of more than `most` bytes."""
    body = bytearray()
    for piece in response.iter_stream():
        body += piece
        if len(body) > most:
            raise BadPeerError(f"a response of more than {most} bytes")
    return Reply(response.status, plain_headers(response), bytes(body))


def plain_headers(response: httpcore.Response) -> dict[str, str]:
    """By lower-case names."""
    return {name.decode("ascii").lower(): value.decode("latin-1") for name, value in response.headers}


def check(reply: Reply) -> None:
    """Raises what an error status means: `ProblemError`, `FinishedError`, `StrangerError`."""
    if reply.status < 300 or reply.status == 304:
        check_type(reply.headers)
        return
    if reply.status < 400:
        where = reply.headers.get("location", "elsewhere")
        raise StrangerError(f"the address redirects to {where}, and redirects are not followed")
    problem = _problem(reply)
    if problem is not None:
        if problem.reason == "run-finished":
            raise FinishedError(problem.detail, problem.model)
        raise ProblemError(problem.reason, problem.detail, retry_after_s=reply.retry_after_s)
    # A proxy on the way speaks for a coordinator that is not there.
    if reply.status in (408, 429) or reply.status >= 500:
        raise ProblemError("unavailable", f"status {reply.status}", retry_after_s=reply.retry_after_s)
    if reply.status == 413:
        raise TooLargeError("status 413: something on the way takes no body of this size")
    raise StrangerError(f"status {reply.status} without a reason: what answers there is not a coordinator")


def check_type(headers: Headers) -> None:
    """Raises `StrangerError` for a page: coordinators send none to a client."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith("text/") or media_type == "application/xhtml+xml":
        raise StrangerError(f"{media_type} instead of a message: what answers there is not a coordinator")


def _problem(reply: Reply) -> Problem | None:
    media_type = reply.headers.get("content-type", "").partition(";")[0].strip()
    try:
        problem = decode_message(Problem, reply.body, media_type)
    except ProblemError:
        return None
    return problem if problem.reason in REASONS else None
