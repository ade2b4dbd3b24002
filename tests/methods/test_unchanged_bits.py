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

STEPS: Final = {"lr": 0.05, "batch-size": 8}
CASES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "fedavg": ("fedavg", {**STEPS, "epochs": 2, "proximal-mu": 0.1, "weight-decay": 0.001}),
    "feddlr": ("feddlr", {**STEPS, "epochs": 1, "nuclear-norm": 1e-4}),
    "progfed": ("progfed", {**STEPS, "epochs": 1, "warm-up": 1}),
    "feddkd": ("feddkd", {**STEPS, "epochs": 1, "distil-target": "mixture", "distil-steps": 3, "distil-lr": 0.001}),
    "sparse_masks": ("sparse_masks", {**STEPS, "epochs": 1, "ste": "theta"}),
    "fd_alu class": ("fd_alu", {**STEPS, "classes": 10}),
    "fd_alu proxy": ("fd_alu", {**STEPS, "classes": 10, "knowledge": "proxy", "proxy-samples": 5}),
    "fd_alu sample": ("fd_alu", {**STEPS, "classes": 10, "knowledge": "sample"}),
}
DIGESTS: Final[dict[tuple[str, ...], dict[str, str]]] = {
    ("2.13.0", "x86_64", "AVX512", "VNNI"): {
        "fedavg": "d5e9c784a71058f1",
        "feddlr": "4f5e1ca872652ca4",
        "progfed": "09c8e3cf4a2ba805",
        "feddkd": "d119b18791c55568",
        "sparse_masks": "23c684d936a8a787",
        "fd_alu class": "ac1d894b2a6f7771",
        "fd_alu proxy": "f1a86f1359e6a16e",
        "fd_alu sample": "c3c32612b8fd79dc",
    },
    ("2.13.0", "x86_64", "AVX512", "no VNNI"): {
        "fedavg": "c62c28daf49f347f",
        "feddlr": "054c840dda459e1d",
        "progfed": "096c562ac63ecc82",
        "feddkd": "5cb72ca6b208ff9c",
        "sparse_masks": "23c684d936a8a787",
        "fd_alu class": "cb66b12987f979ab",
        "fd_alu proxy": "303683e329497e9c",
        "fd_alu sample": "4a024cb1a6afcc6c",
    },
}
"""Training gives the same bits on machines of one kind, with one torch, whose kernels are chosen by more than what it
calls a capability: older processors, without VNNI, add in another order. Both were taken from the code as it was.
"""


def digest(arrays: Arrays) -> str:
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name}{array.dtype.str}{array.shape}".encode() + np.asarray(array, order="C").tobytes())
    return found.hexdigest()[:16]


def here() -> tuple[str, ...]:
    newer = "VNNI" if torch.cpu.get_capabilities().get("avx512_vnni") else "no VNNI"
    return torch.__version__.partition("+")[0], platform.machine(), torch.backends.cpu.get_cpu_capability(), newer


@pytest.mark.parametrize("case", CASES)
def test_a_task_of_tensors_ends_in_the_bits_that_it_ended_in(case: str) -> None:
    if here() not in DIGESTS:
        pytest.skip(f"no digests of {here()}; there are those of {list(DIGESTS)}")
    method, settings = CASES[case]
    fleet = learners(2, examples=100, architecture="digits_convnet", allow=["sample-knowledge"])
    result = simulated(run_settings(method, settings, cohort=2, chains="plain"), fleet, first_model(fleet))
    assert digest(result.state.arrays) == DIGESTS[here()][case]
