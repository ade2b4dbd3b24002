"""Where a request comes from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any


def address_of(scope: Mapping[str, Any]) -> str:
    """Of an ASGI scope; of IPv6 the network of 64 bits, since whoever has one address has all of those."""
    return _who_asks(str((scope.get("client") or ("",))[0]))


@lru_cache(maxsize=4096)
def _who_asks(host: str) -> str:
    address = _address(host)
    if address is None:
        return host
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class Proxies:
    """Peers that stand for others: addresses and networks, `*` for everybody. Raises: ValueError, for anything else."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = frozenset(names)
        self._networks = [ipaddress.ip_network(name, strict=False) for name in self.names - {"*"}]

    def __contains__(self, host: str) -> bool:
        if "*" in self.names:
            return True
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_network(host, strict=False)
        except ValueError:
            return False
        return any(found.version == one.version and found.overlaps(one) for one in self._networks)

    @property
    def local(self) -> bool:
        """Whether one of them is on this machine."""
        return "*" in self.names or any(network.is_loopback for network in self._networks)
