"""Fixtures of the methods' tests: one thread, and the toy beside the real methods."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import thinwire.methods

TOY = Path(__file__).with_name("toy_root") / "thinwire" / "methods"
if str(TOY) not in thinwire.methods.__path__:
    # What PYTHONPATH=tests/methods/toy_root does for a process.
    thinwire.methods.__path__.append(str(TOY))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
