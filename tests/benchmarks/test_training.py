"""`benchmarks.training` measures every method there is."""

from __future__ import annotations

import pkgutil
from pathlib import Path

from benchmarks.training import BARE, Workload, measure
from thinwire.methods import registry


def test_every_method_stands_beside_the_bare_loop() -> None:
    # Not `method_ids()`: other tests put toys on the same path, with answers that need more than a first model.
    methods = [module.name for module in pkgutil.iter_modules([str(Path(registry.__file__).parent)]) if module.ispkg]
    rows = measure(Workload("digits_convnet", (1, 8, 8), 128), methods, 128, 1)
    found = {row.contestant: row for row in rows}
    assert found[BARE].ratio == 1
    assert all(row.seconds > 0 for row in rows)
    assert set(methods) - found.keys() == {"progfed"}
    assert {f"progfed, stage {stage} of 3" for stage in (1, 2, 3)} <= found.keys()
