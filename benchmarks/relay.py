"""A site of devices behind one link, with a relay and without: bytes that cross the link, by a counting proxy's count.

A run of real clients (`thinwire-client fleet`) with fedavg's default chains on random examples, a model of 1.0 million
values; both runs have the same seeds, and their final models are compared. `python -m benchmarks.relay`
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.counting_proxy import CountingProxy
from benchmarks.tables import Table
from thinwire.machine.files import file_digest
from thinwire.machine.quantities import in_bytes
from thinwire.operator.lab import EDGE_CLIENT, ENVIRONMENT, Lab
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import RunSettings

RELAY: Final = "thinwire.operator"
TASK: Final = """
import torch
from torch import nn
from thinwire.edge_client.data import Data

def model():
    return nn.Sequential(nn.Linear(10, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 3))

def data(client):
    g = torch.Generator().manual_seed(client.index)
    x = torch.randn(60, 10, generator=g)
    return Data(train=(x[:40], x[:40, :3].argmax(1)), evaluation=(x[40:], x[40:, :3].argmax(1)))
"""


@dataclass(frozen=True, slots=True)
class Crossed:
    """Bytes over the link, and the final model."""

    uplink: int
    downlink: int
    model: bytes


def measure(devices: int, rounds: int, *, relayed: bool) -> Crossed:
    """One run."""
    # A proxy of the environment would be asked for addresses that only this machine has.
    environment = {**os.environ, **ENVIRONMENT, "no_proxy": "*", "NO_PROXY": "*"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = folder / "task.py"
        task.write_text(TASK)
        with Lab(folder) as lab:
            lab.serve()
            with CountingProxy(lab.url) as link:
                url, relay = link.url, None
                if relayed:
                    said = folder / "relay.json"
                    words = ["relay", url, "--port", "0", "--data-dir", str(folder / "relay"), "--stats", str(said)]
                    relay = lab.children.start("relay", RELAY, words, environment)
                    lab.wait(lambda: "listens at " in relay.log.read_text(), relay, "does not listen")
                    url = relay.log.read_text().partition("listens at ")[2].split()[0]
                settings = RunSettings(name="site", rounds=rounds, cohort=devices, quorum=devices)
                model = lab.first_model(["--task", str(task), "--seed", "0"])
                run = lab.start_run(model, settings).id
                words = [
                    "fleet", url, "--clients", str(devices), "--invite-file", str(lab.write_invite("site", devices)),
                    "--task", str(task), "--processes", "1",
                ]  # fmt: skip
                fleet = lab.children.start("fleet", EDGE_CLIENT, words, environment)
                view = lab.follow(lab.view(run))
                assert view.outcome == "completed", view
                lab.finish([fleet])
                if relay is not None:
                    relay.process.send_signal(signal.SIGTERM)
                    assert relay.process.wait() == Exit.INTERRUPTED
                    lab.children.forget(relay)
                uplink, downlink = link.total
            final = folder / "final.safetensors"
            lab.operator.fetch_file(f"/v1/runs/{run}/model", final)
            return Crossed(uplink, downlink, file_digest(final))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=4)
    asked = parser.parse_args()
    without, with_it = (measure(asked.devices, asked.rounds, relayed=relayed) for relayed in (False, True))
    rows = [
        (name, in_bytes(one.uplink), in_bytes(one.downlink), in_bytes(one.uplink + one.downlink), one.model.hex()[:12])
        for name, one in (("without a relay", without), ("with a relay", with_it))
    ]
    title = f"{asked.devices} devices, {asked.rounds} rounds: bytes over their link"
    Table(title, ("", "up", "down", "both", "final model"), rows).show(Console())
    assert without.model == with_it.model


if __name__ == "__main__":
    main()
