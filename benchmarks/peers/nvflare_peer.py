"""NVFlare: its provisioned services of one machine, with mutual TLS, and its own FedAvg recipe."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from benchmarks.peers.started import end_all, started
from benchmarks.peers.watching import STAMPS, Case, Cost, watch

HERE = Path(__file__).parent


def run(case: Case, folder: Path, binaries: Path) -> Cost:
    """`binaries`: of NVFlare's environment. Its recipe takes one array. Raises: `PeerFailedError`, `TooSlowError`."""
    stamps, workspace, model = folder / "stamps", folder / "poc", folder / "model.npy"
    np.save(model, np.random.default_rng(0).standard_normal(case.size // 4, np.float32))
    environment = os.environ | {
        "NVFLARE_POC_WORKSPACE": str(workspace), "HOME": str(folder), STAMPS: str(stamps), "OMP_NUM_THREADS": "1",
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    with started(folder, environment) as processes:
        try:
            processes.start(
                "job",
                [str(binaries / "python"), str(HERE / "nvflare_job.py"), str(case.clients), str(case.rounds),
                 str(model), str(HERE / "nvflare_client.py")],
            )  # fmt: skip
            return watch(
                "nvflare", case, stamps, lambda: _of(workspace, "/server"), lambda: _of(workspace, "/site-"),
                processes.check,
            )  # fmt: skip
        finally:
            # Its services are no children of the job that started them.
            end_all(sorted({*_of(workspace, "/server"), *_of(workspace, "/site-")}))


def _of(workspace: Path, which: str) -> Collection[int]:
    """The processes that work in a part of the workspace: it is in their command lines."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            with contextlib.suppress(OSError):
                line = (place / "cmdline").read_text()
                if str(workspace) in line and which in line.partition(str(workspace))[2]:
                    found.append(int(place.name))
    return found
