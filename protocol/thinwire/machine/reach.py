"""What may be wrong between a program and a coordinator, before anything is said: name, port, certificate, clock."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, Literal

State = Literal["ok", "warning", "wrong"]
MARKS: Final[dict[State, str]] = {"ok": "ok     ", "warning": "look   ", "wrong": "WRONG  "}
"""What stands before a finding on a terminal."""
PATIENCE_S: Final = 5.0
LEAST_VALID_S: Final = 14 * 86_400.0
MOST_SKEW_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`check`: what was looked at; `cure`: what to do, "" where nothing is."""

    check: str
    state: State
    said: str
    cure: str = ""


def wrong(check: str, said: str, cure: str) -> Finding:
    """What keeps commands or clients from working."""
    return Finding(check, "wrong", said, cure)


def reach(host: str, port: int) -> Finding:
    """Whether the name has an address, and somebody listens there."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return wrong("name", f"{host} has no address: {error.strerror}", "look for a typing error; ask the DNS")
    try:
        with socket.create_connection((host, port), timeout=PATIENCE_S):
            return Finding("port", "ok", f"{addresses[0][4][0]} takes connections at {port}")
    except ConnectionRefusedError:
        cure = "start the coordinator there, or name the port that it has"
        return wrong("port", f"nobody listens at {host}:{port}", cure)
    except OSError as error:
        cure = "a firewall may drop what is sent there: open the port"
        return wrong("port", f"{host}:{port} does not answer: {error.strerror or 'no word came back'}", cure)


def examine_tls(host: str, port: int, ca_file: Path | None) -> Finding:
    """Whether the certificate is one to trust, and for how long. Raises: OSError where `ca_file` cannot be read."""
    context = ssl.create_default_context(cafile=ca_file)
    try:
        with (
            socket.create_connection((host, port), timeout=PATIENCE_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as secure,
        ):
            shown: dict[str, Any] = dict(secure.getpeercert() or {})
    except ssl.SSLCertVerificationError as error:
        other_name = "ask for the coordinator by a name of its certificate, or have one made for this name"
        cures = {
            9: "the certificate begins later than this machine's clock: set the clock",
            10: "renew the certificate; or set this machine's clock, if it is ahead",
            62: other_name,
            64: other_name,
        }
        usual = "give --ca-file with the certificate of whoever signed it, if it is your own"
        return wrong("certificate", error.verify_message, cures.get(error.verify_code, usual))
    except OSError as error:
        return wrong("certificate", f"no TLS at {host}:{port}: {error}", "write http:// if it is served without TLS")
    left_s = ssl.cert_time_to_seconds(str(shown["notAfter"])) - time.time()
    if left_s < LEAST_VALID_S:
        said = f"the certificate ends in {left_s / 86_400:.0f} days"
        return Finding("certificate", "warning", said, "renew it: clients wait until it is valid again")
    return Finding("certificate", "ok", f"trusted, for {left_s / 86_400:.0f} more days")


def examine_clock(date: str | None, now: float) -> Iterator[Finding]:
    """`date`: of a response's header. A proxy says what time it is; the coordinator itself does not. `now`: Unix
    seconds.
    """
    if date is not None:
        skew_s = now - parsedate_to_datetime(date).timestamp()
        if abs(skew_s) > MOST_SKEW_S:
            ahead = "ahead of" if skew_s > 0 else "behind"
            said = f"this machine's clock is {abs(skew_s):.0f} s {ahead} the other's"
            yield Finding("clock", "warning", said, "set both by NTP: certificates and expiries depend on it")
        else:
            yield Finding("clock", "ok", "agrees")
