"""Flower: SuperLink, SuperNodes and an app, over plain HTTP of the loopback, state in memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.peers.started import free_ports, started, wait_for_port
from benchmarks.peers.watching import STAMPS, Case, Cost, trees, watch

APP = Path(__file__).parent / "flower_app"


def run(case: Case, folder: Path, binaries: Path) -> Cost:
    """`binaries`: of Flower's environment. Raises: `PeerFailedError`, `TooSlowError`."""
    home = folder / "home"
    home.mkdir()
    stamps = folder / "stamps"
    port, *nodes = free_ports(1 + case.clients)
    environment = os.environ | {
        "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", STAMPS: str(stamps), "OMP_NUM_THREADS": "1",
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    app = folder / "app"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
    with started(folder, environment) as processes:
        server = processes.start(
            "superlink",
            [str(binaries / "flower-superlink"), "--insecure", "--disable-runtime-dependency-installation",
             "--port", str(port)],
        )  # fmt: skip
        wait_for_port(port, processes)
        clients = [
            processes.start(
                f"supernode-{index}",
                [str(binaries / "flower-supernode"), "--insecure", "--superlink", f"127.0.0.1:{port}",
                 "--port", str(own), "--node-config", f"partition-id={index}"],
            )
            for index, own in enumerate(nodes)
        ]  # fmt: skip
        wanted = f"rounds={case.rounds} clients={case.clients} elements={case.size // 4} arrays={case.arrays}"
        processes.start("run", [str(binaries / "flwr"), "run", str(app), "here", "--run-config", wanted])
        return watch("flower", case, stamps, trees(server), trees(*clients), processes.check)
