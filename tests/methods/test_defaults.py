"""Out of the box a run learns: fedavg with its defaults, on the small tasks of `benchmarks.defaults`."""

from __future__ import annotations

import pytest

from benchmarks.defaults import outcome
from benchmarks.eight_tasks import TASKS

LEAST = {"digits": 0.75, "breast_cancer": 0.92, "diabetes": 0.4}
"""Of accuracy, or of the variance that is explained, after ten rounds."""
LONG = {"banking77": 0.5, "fashion_mnist": 0.6, "cifar10_small": 0.2}
each_small = pytest.mark.parametrize("name", LEAST)


@each_small
def test_the_defaults_learn(name: str) -> None:
    found = outcome(TASKS[name], "fedavg", {}, "defaults")
    assert found.after is not None, found.problem
    assert found.after > LEAST[name]


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_the_defaults_learn_on_larger_data(name: str) -> None:
    task = TASKS[name]
    if not task.is_there:
        pytest.skip(f"{task.file} is not there")
    found = outcome(task, "fedavg", {}, "defaults")
    assert found.after is not None, found.problem
    assert found.after > LONG[name]
