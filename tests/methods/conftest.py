"""Fixtures of the methods' tests: one thread, and the toy beside the real methods."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest
import torch

import thinwire.methods
from thinwire.methods import registry

TOY = Path(__file__).with_name("toy_root") / "thinwire" / "methods"
if str(TOY) not in thinwire.methods.__path__:
    # What PYTHONPATH=tests/methods/toy_root does for a process.
    thinwire.methods.__path__.append(str(TOY))


def whole_methods() -> list[str]:
    """The package's methods and the toy. Not `method_ids()`: other tests put half a method on the same path."""
    folders = [str(Path(registry.__file__).parent), str(TOY)]
    return sorted(module.name for module in pkgutil.iter_modules(folders) if module.ispkg)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
