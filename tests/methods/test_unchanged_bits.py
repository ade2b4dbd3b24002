"""The final states of small runs, as they were before tasks could be anything but one tensor: the same bits today."""

from __future__ import annotations

import hashlib
import platform
from typing import Any, Final

import numpy as np
import pytest
import torch

from tests.methods.fleet import first_model, learners, run_settings, simulated
from thinwire.codecs import Arrays

CASES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "fedavg": ("fedavg", {"epochs": 2, "proximal-mu": 0.1, "weight-decay": 0.001}),
    "feddlr": ("feddlr", {"nuclear-norm": 1e-4}),
    "progfed": ("progfed", {"warm-up": 1}),
    "feddkd": ("feddkd", {"distil-target": "mixture"}),
    "sparse_masks": ("sparse_masks", {"epochs": 1, "ste": "theta"}),
    "fd_alu class": ("fd_alu", {"classes": 10, "local-rounds-per-exchange": 1}),
    "fd_alu proxy": (
        "fd_alu",
        {"classes": 10, "local-rounds-per-exchange": 1, "knowledge": "proxy", "proxy-samples": 5},
    ),
    "fd_alu sample": ("fd_alu", {"classes": 10, "local-rounds-per-exchange": 1, "knowledge": "sample"}),
}
WHERE: Final = ("2.13.0", "x86_64", "AVX512")
"""Training gives the same bits on machines of one kind, with one torch."""
DIGESTS: Final = {
    "fedavg": "7e4f1d548621cd9c",
    "feddlr": "940650becd0c36ad",
    "progfed": "68eafc97a14f0a02",
    "feddkd": "b9529498a9c05a03",
    "sparse_masks": "6d1a170aab20b823",
    "fd_alu class": "988fe5c7c0ae217c",
    "fd_alu proxy": "a15c14f3feeb42ba",
    "fd_alu sample": "b3d46b5b56cb6211",
}


def digest(arrays: Arrays) -> str:
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name}{array.dtype.str}{array.shape}".encode() + np.asarray(array, order="C").tobytes())
    return found.hexdigest()[:16]


def here() -> tuple[str, str, str]:
    return torch.__version__.partition("+")[0], platform.machine(), torch.backends.cpu.get_cpu_capability()


@pytest.mark.parametrize("case", CASES)
def test_a_task_of_tensors_ends_in_the_bits_that_it_ended_in(case: str) -> None:
    if here() != WHERE:
        pytest.skip(f"the digests are of {WHERE}; this is {here()}")
    method, settings = CASES[case]
    fleet = learners(2, examples=100, architecture="digits_convnet", allow=["sample-knowledge"])
    result = simulated(run_settings(method, settings, cohort=2), fleet, first_model(fleet))
    assert digest(result.state.arrays) == DIGESTS[case]
