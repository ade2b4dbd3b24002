"""All clients come back at once after an outage: none is lost, none counted twice. The benchmark, in short."""

from __future__ import annotations

import pytest

from benchmarks.outage import outage


@pytest.mark.parametrize(
    ("clients", "answer_bytes"), [(30, 8 << 10), pytest.param(500, 100 << 10, marks=pytest.mark.long)]
)
def test_every_answer_counts_once(clients: int, answer_bytes: int) -> None:
    found, metrics = outage(clients, answer_bytes)
    assert [one.answers for one in metrics.exchanges] == [clients, clients]
    assert found.accepted == 2 * clients
