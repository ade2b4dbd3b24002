"""Bytes as text: three digits, the right unit, and back again; rates from text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.machine.quantities import in_bytes, parse_bytes, parse_rate


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (7, "7 B"), (999, "999 B"), (999.5, "1.00 kB"), (1000, "1.00 kB"), (27_140, "27.1 kB"),
        (99_949, "99.9 kB"), (99_950, "100 kB"), (386_000, "386 kB"), (999_499, "999 kB"), (999_500, "1.00 MB"),
        (1_640_000, "1.64 MB"), (999_500_000, "1.00 GB"), (1.5e9, "1.50 GB"), (2.5e12, "2.50 TB"),
        (4e15, "4000 TB"), (-4_500, "-4.50 kB"),
    ],
)  # fmt: skip
def test_bytes_as_text(count: float, text: str) -> None:
    assert in_bytes(count) == text


@given(st.integers(1, 10**15))
def test_bytes_there_and_back(count: int) -> None:
    text = in_bytes(count)
    assert "e" not in text
    assert in_bytes(parse_bytes(text)) == text
    assert abs(parse_bytes(text) - count) <= 0.005 * count
    if count >= 1000:
        assert sum(character.isdigit() for character in text) >= 3
    assert parse_bytes(str(count)) == count


@given(st.integers(1, 10**15), st.integers(1, 10**15))
def test_text_keeps_the_order(one: int, other: int) -> None:
    assert (parse_bytes(in_bytes(one)) <= parse_bytes(in_bytes(other))) or one > other


@pytest.mark.parametrize(
    ("text", "count"),
    [("50MB", 50_000_000), ("800k", 800_000), ("1000000", 1_000_000), (" 1.5 gb ", 1_500_000_000), ("2T", 2 * 10**12),
     ("812 B", 812), (".5kB", 500)],
)  # fmt: skip
def test_bytes_as_people_write_them(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "rate"),
    [("64kbit", 64e3), ("64k", 64e3), ("9600", 9600), ("9600bps", 9600), ("1.6Mbit", 1.6e6), ("2 Gbit/s", 2e9)],
)
def test_rates_as_people_write_them(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("parse", [parse_bytes, parse_rate])
@pytest.mark.parametrize("text", ["", "fast", "-5k", "1.2.3", ".", "5 x", "1e9", "nan", "inf", "0", "0k", "५k", "5kk"])
def test_what_is_no_quantity_is_refused_with_an_example(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(ValueError, match="write, for example"):
        parse(text)
