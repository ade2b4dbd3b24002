"""For whom a request is meant, and whether it was made at this machine: by its peer, `Host`, `Origin` and what proxies
add. Where the coordinator listens says nothing of that: a proxy beside it, or a web page in a browser beside it, asks
over the loopback, too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from thinwire.protocol.places import on_this_machine
from thinwire.protocol.reasons import ProblemError

from .addresses import Proxies, address_of
from .identity import LOCAL
from .problems import problem_response

_FORWARDED: Final = (b"forwarded", b"via", b"x-real-ip", b"x-forwarded-")
_PAGES_OF_OTHERS: Final = ("cross-site", "same-site")


class Hosts:
    """`allowed`: the names that the coordinator is asked for by, beside those of the loopback; none: it does not know
    them. `proxies`: peers that ask for others.
    """

    def __init__(self, allowed: frozenset[str] = frozenset(), proxies: Proxies | None = None) -> None:
        self._allowed = allowed
        self._proxied = proxies is not None and proxies.local

    def check(self, scope: Scope) -> None:
        """Raises: `bad-request` for another's `Host`; `not-allowed` for a page of another origin."""
        headers = Headers(scope=scope)
        given = headers.getlist("host")
        if len(given) > 1 or (not given and scope.get("http_version") != "1.0"):
            raise ProblemError("bad-request", "a request names one Host")
        host = _name(given[0]) if given else ""
        if not self._is_ours(scope, host):
            raise ProblemError(
                "bad-request",
                f"Host {host[:80]!r} is not this coordinator's: give it as --allowed-hosts, and a proxy's address as "
                "--trusted-proxies",
            )
        origin = headers.get("origin")
        if origin is not None and given and not self._is_same(origin, given[0]):
            raise ProblemError("not-allowed", "a page of another origin may not ask")

    def is_local(self, scope: Scope) -> bool:
        """Whether a program at this machine asks for itself. Not where one of the proxies is on it, since such a proxy
        may add nothing; HTTP/1.0 is what proxies speak by themselves and nobody else does.
        """
        headers = Headers(scope=scope)
        return (
            not self._proxied
            and scope.get("http_version") != "1.0"
            and on_this_machine(address_of(scope))
            and on_this_machine(_name(headers.get("host", "")))
            and not any(name.startswith(_FORWARDED) for name, _ in scope["headers"])
            and headers.get("sec-fetch-site") not in _PAGES_OF_OTHERS
        )

    def _is_ours(self, scope: Scope, host: str) -> bool:
        if not host or host in self._allowed or on_this_machine(host):
            return True
        return not self._allowed and (self._proxied or not on_this_machine(address_of(scope)))

    def _is_same(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
            port = parts.port
        except ValueError:
            return False
        name = (parts.hostname or "").rstrip(".")
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        return name in self._allowed or (bool(name) and (name, port or usual) == (_name(host), _port(host) or usual))


@lru_cache(maxsize=1024)
def _name(host: str) -> str:
    """Without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.partition(":")[0].rstrip(".")


def _port(host: str) -> int | None:
    port = host.strip().rpartition("]")[2].partition(":")[2]
    return int(port) if port.isascii() and port.isdecimal() and len(port) <= 5 else None


class HostCheck:
    """The ASGI middleware, outside of `Identity`."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._hosts.check(scope)
            except ProblemError as error:
                await problem_response(Request(scope), error)(scope, receive, send)
                return
            scope[LOCAL] = self._hosts.is_local(scope)
        await self._app(scope, receive, send)
