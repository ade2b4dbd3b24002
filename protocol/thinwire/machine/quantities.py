"""Bytes as people write and read them, rates as they write them. Units are decimal: a kilobyte has 1000 bytes."""

from __future__ import annotations

import re
from typing import Final

_SCALES: Final = {"T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3, "": 1}
_NUMBER: Final = r"(\d+(?:\.\d*)?|\.\d+)\s*([tgmk]?)"


def in_bytes(count: float) -> str:
    """Three digits and a unit: `812 B`, `27.1 kB`, `1.60 MB`."""
    # A unit begins where the smaller one would be rounded up to 1000 of it.
    prefix, scale = next((each for each in _SCALES.items() if abs(count) >= 0.9995 * each[1]), ("", 1))
    number = count / scale
    whole = scale == 1 or abs(number) >= 99.95
    return f"{number:.0f} {prefix}B" if whole else f"{number:#.3g} {prefix}B"


def parse_bytes(text: str) -> int:
    """Of `50MB`, `800k`, `1000000`, `27.1 kB`: at least one byte. Raises: `ValueError`."""
    value = _parsed(text, "b?")
    if value is None or round(value) < 1:
        raise ValueError(f"{text!r} is no number of bytes: write, for example, 50MB")
    return round(value)


def parse_rate(text: str) -> float:
    """Bits per second, more than none, of `64kbit`, `1.6M`, `64.0 kbit/s`, `9600bps`. Raises: `ValueError`."""
    value = _parsed(text, "(?:bit(?:/s)?|bps)?")
    if not value:
        raise ValueError(f"{text!r} is not a rate: write, for example, 64kbit")
    return value


def _parsed(text: str, unit: str) -> float | None:
    match = re.fullmatch(_NUMBER + unit, text.strip().lower(), re.ASCII)
    scales = {prefix.lower(): scale for prefix, scale in _SCALES.items()}
    return None if match is None else float(match[1]) * scales[match[2]]
