"""`benchmarks.training` measures every method there is."""

from __future__ import annotations

from benchmarks.training import BARE, Workload, measure
from thinwire.methods.registry import method_ids


def test_every_method_stands_beside_the_bare_loop() -> None:
    rows = measure(Workload("digits_convnet", (1, 8, 8), 128), 128, 1)
    found = {row.contestant: row for row in rows}
    assert found[BARE].ratio == 1
    assert all(row.seconds > 0 for row in rows)
    assert set(method_ids()) - found.keys() == {"progfed"}
    assert {f"progfed, stage {stage} of 3" for stage in (1, 2, 3)} <= found.keys()
