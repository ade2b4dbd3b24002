"""Where a coordinator is: what its data folder says to commands on the same machine, and what stands before a host."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

ADDRESS_FILE: Final = "coordinator.json"
"""While it serves: `url` and `pid`."""
OPERATOR_TOKEN: Final = "operator.token"  # noqa: S105 (a file's name)
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@lru_cache(maxsize=1024)
def on_this_machine(host: str) -> bool:
    """Whether what is sent to this host never leaves the machine."""
    try:
        return host in LOOPBACK or ip_address(host).is_loopback
    except ValueError:
        return False


def find_proxy(scheme: str, host: str) -> str | None:
    """The URL of the proxy that the environment names for this host (`http_proxy`, `https_proxy`, `all_proxy`,
    `no_proxy`). None stands before this machine: a proxy would look for it elsewhere.
    """
    if on_this_machine(host) or proxy_bypass(host):
        return None
    known = getproxies()
    proxy = known.get(scheme) or known.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def without_secrets(url: str) -> str:
    """The URL without user and password, for messages."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
