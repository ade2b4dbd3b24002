"""Until when a certificate holds, read from its file: DER (X.690) as far as RFC 5280, section 4.1, needs it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_VERSION: Final = 0xA0
_TIMES: Final = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
_END: Final = "-----END CERTIFICATE-----"


def expires_at(path: Path) -> float:
    """Unix seconds, of the first certificate in a PEM file. Raises: OSError; ValueError where there is none."""
    text = path.read_text(errors="replace")
    start = text.find("-----BEGIN CERTIFICATE-----")
    if start < 0 or _END not in text:
        raise ValueError(f"{path} holds no certificate")
    der = ssl.PEM_cert_to_DER_cert(text[start : text.index(_END) + len(_END)])
    try:
        (_, certificate) = next(_values(der))
        (_, signed) = next(_values(certificate))
        fields = [one for one in _values(signed) if one[0] != _VERSION]
        _, (tag, until) = _values(fields[3][1])  # behind number, algorithm and issuer
        return datetime.strptime(until.decode("ascii"), _TIMES[tag]).replace(tzinfo=UTC).timestamp()
    except (StopIteration, IndexError, KeyError, ValueError):
        raise ValueError(f"{path} holds no certificate that can be read") from None


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and content of each value in a row of them."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(data[at : at + count]), at + count
        yield tag, data[at : at + length]
        at += length
