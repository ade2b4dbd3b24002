"""Quantities as an operator reads them."""

from __future__ import annotations

import pytest

from thinwire.machine.quantities import in_bytes
from thinwire.operator.console import in_figure, in_percent, in_time


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (27_140, "27.1 kB"), (386_000, "386 kB"), (999_499, "999 kB"),
        (999_500, "1.00 MB"), (2_000_000, "2.00 MB"), (1.5e9, "1.50 GB"), (-4_500, "-4.50 kB"),
    ],
)  # fmt: skip
def test_bytes(count: float, text: str) -> None:
    assert in_bytes(count) == text


def test_what_is_not_there_is_a_dash() -> None:
    assert in_figure(None) == in_percent(1, 0) == in_time(None) == "-"
    assert (in_figure(0.5), in_percent(1, 4), in_time(0.0)) == ("0.5000", "25.0 %", "1970-01-01 00:00:00")
