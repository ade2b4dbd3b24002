"""What a coordinator leaves in its data folder for commands on the same machine, and which hosts are this machine."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

ADDRESS_FILE: Final = "coordinator.json"
"""While it serves: `url` and `pid`."""
OPERATOR_TOKEN: Final = "operator.token"  # noqa: S105 (a file's name)
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def on_this_machine(host: str) -> bool:
    """Whether what is sent to this host never leaves the machine."""
    try:
        return host in LOOPBACK or ip_address(host).is_loopback
    except ValueError:
        return False
