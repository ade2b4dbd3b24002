"""Out of the box a run learns: fedavg with its defaults, on the small tasks of `benchmarks.defaults`."""

from __future__ import annotations

import pytest

from benchmarks.defaults import COMMAND, OUT, PAGE, outcome, read, table, wanted
from benchmarks.eight_tasks import TASKS
from benchmarks.marked import filled

LEAST = {"digits": 0.75, "breast_cancer": 0.92, "diabetes": 0.4}
"""Of accuracy, or of the variance that is explained, after ten rounds."""
LONG = {"banking77": 0.5, "fashion_mnist": 0.6, "cifar10_small": 0.2, "nuclei": 0.5, "shakespeare": 0.12}
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


def test_the_stored_table_is_of_the_defaults_in_force_and_stands_in_the_guide() -> None:
    held = read(OUT)
    defaults = {one.task.name: one for one in wanted(list(TASKS), ["fedavg"]) if not one.settings}
    assert [name for name, one in defaults.items() if one.key not in held] == []
    assert table(held, "fedavg").markdown().strip() in filled(PAGE, COMMAND)
    for name, least in {**LEAST, **LONG}.items():
        after = held[defaults[name].key].after
        assert after is not None, name
        assert after > least, name
