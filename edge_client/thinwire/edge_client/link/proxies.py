"""The way out through a proxy: which one the environment names for a coordinator, and the connections through it.

`HTTPS_PROXY` and the like are as other programs read them. The name and the password in them are handed over apart:
httpcore leaves out what a URL has of them.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import httpcore

from thinwire.protocol.places import find_proxy
from thinwire.protocol.reasons import ProblemError

from .replies import StrangerError
from .sockets import CountingBackend

KEEP_ALIVE_S: Final = 650.0
"""Longer than the longest poll: opening TLS anew for every exchange would cost more than a thin exchange does."""

_MEANINGS: Final = {
    "403": "it lets nobody through to this address; ask whoever runs it",
    "407": "it wants another name and password than it got; write HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT",
}


class BadProxyError(Exception):
    """What the environment names is no proxy that this client can use."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """`url`: without credentials, which go into a header and into no message. `credentials`: name and password."""

    url: str
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Host and port."""
        return self.url.partition("://")[2]

    @classmethod
    def of(cls, text: str) -> Self:
        """Of `http://name:password@proxy.example:3128`, escapes as in URLs.

        Raises: `BadProxyError`, which names neither name nor password.
        """
        try:
            parts = urlsplit(text)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise BadProxyError("the proxy that the environment names has a port that is no number") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadProxyError(f"a proxy is http://HOST:PORT or https://HOST:PORT, not {parts.scheme}://...")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        known = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
        return cls(f"{parts.scheme}://{host}:{port}", known)


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """The proxy that the environment names for this host; none for this machine itself. Raises: `BadProxyError`."""
    found = find_proxy(scheme, host)
    return None if not found else Proxy.of(found)


def connections(proxy: Proxy | None, backend: CountingBackend, tls: ssl.SSLContext | None) -> httpcore.ConnectionPool:
    """Those of one coordinator, through a proxy or not: `CONNECT` where it speaks TLS, forwarded requests elsewhere."""
    context = tls or ssl.create_default_context()
    if proxy is None:
        return httpcore.ConnectionPool(
            ssl_context=context, network_backend=backend, max_connections=2, keepalive_expiry=KEEP_ALIVE_S
        )
    known = None if proxy.credentials is None else tuple(text.encode() for text in proxy.credentials)
    return httpcore.HTTPProxy(
        proxy.url,
        proxy_auth=known,  # type: ignore[arg-type]  # of two
        ssl_context=context,
        network_backend=backend,
        max_connections=2,
        keepalive_expiry=KEEP_ALIVE_S,
    )


def url_of(address: str) -> httpcore.URL:
    """An address of IPv6 keeps its brackets there: httpcore takes them away, and asks a proxy without them."""
    url = httpcore.URL(address)
    if b":" in url.host:
        url.host = b"[" + url.host + b"]"
    return url


def refusal(error: httpcore.ProxyError) -> StrangerError | ProblemError:
    """What a proxy's answer to `CONNECT` means: something that passes, or that a person has to look at."""
    status = str(error).partition(" ")[0]
    if status not in _MEANINGS:
        return ProblemError("unavailable", f"the proxy answers {error}: it does not reach the coordinator")
    return StrangerError(f"the proxy answers {error}: {_MEANINGS[status]}")
