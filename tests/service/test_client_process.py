"""What a client's process loads and holds, beside PyTorch alone: real processes, started anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from thinwire.protocol.settings import RunSettings

from .conftest import ENVIRONMENT, Service

TASK = """
import atexit, json, sys
from pathlib import Path

import torch
from torch import nn
from thinwire.edge_client.adapters import add_lora
from thinwire.edge_client.data import Data
from thinwire.methods.inputs import usual_outputs
from thinwire.methods.local_optimizers import build

WIDTH, RANK, ROWS = {width}, {rank}, 64
HELD = []


def held(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


def rows():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(ROWS, WIDTH, generator=generator)
    return inputs, inputs[:, :3].argmax(1)


def model():
    whole = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))
    return add_lora(whole, ["0"], rank=RANK, also=["2.*"])


def data(client):
    inputs, targets = rows()
    return Data(train=(inputs[16:], targets[16:]), evaluation=(inputs[:16], targets[:16]))


def outputs(model, inputs):
    HELD.append(held("RssAnon"))
    return usual_outputs(model, inputs)


def told():
    print(json.dumps({{"held": HELD, "peak": held("VmHWM"), "modules": sorted(sys.modules)}}), file=open({out!r}, "w"))


if __name__ != "__main__":
    atexit.register(told)
else:
    torch.set_num_threads(1)
    net, (inputs, targets) = model(), rows()
    # An object of torch.optim would load a compiler, and hold 60 MB more than a client does.
    named = {{name: one for name, one in net.named_parameters() if one.requires_grad}}
    optimizer = build("adamw", named, lr=0.001, momentum=0, betas=(0.9, 0.999), weight_decay=0)
    for _ in range(5):
        for part in range(16, 64, 16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(outputs(net, inputs[part : part + 16]), targets[part : part + 16]).backward()
            optimizer.step()
    told()
"""
UNWANTED = (
    "torch._dynamo", "torch._inductor", "sympy", "networkx", "sklearn", "scipy", "matplotlib", "pandas", "constriction",
    "fastapi", "starlette", "uvicorn", "sqlalchemy", "httpx", "textual", "thinwire.coordinator", "thinwire.operator",
)  # fmt: skip


def ended(service: Service, folder: Path, rounds: int, **sizes: int) -> tuple[dict[str, Any], Path]:
    """What a client that was started as users start it had loaded and held when its run was over; its task file."""
    task, out = folder / "task.py", folder / "told.json"
    task.write_text(TASK.format(out=str(out), **sizes))
    settings = RunSettings(
        name="adapters", cohort=1, rounds=rounds, chains="plain",
        settings={"local-optimizer": "adamw", "lr": 0.001, "batch-size": 16},
    )  # fmt: skip
    run = service.start_run(service.first_model(["--task", str(task)]), settings)
    words = [
        "join", service.url, "--task", str(task), "--invite-file", str(service.write_invite("one")),
        "--data-dir", str(folder / "client"), "--quiet",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "thinwire.edge_client", *words], env=ENVIRONMENT, timeout=600)
    assert done.returncode == 0
    assert service.view(run.id).outcome == "completed"
    return json.loads(out.read_text()), task


def test_a_client_loads_nothing_that_its_task_does_not_use(service: Service, tmp_path: Path) -> None:
    """Adapters, Adam, evaluation, two rounds: no compiler, nothing of the coordinator's, no library of tests."""
    told, _ = ended(service, tmp_path, 2, width=64, rank=4)
    assert "torch" in told["modules"]
    assert not {name for name in told["modules"] for bad in UNWANTED if name == bad or name.startswith(f"{bad}.")}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_memory_is_that_of_the_bare_loop_and_little_of_what_travels(service: Service, tmp_path: Path) -> None:
    """Fifty rounds of adapters of 32 MiB: flat, and at its peak at most 1.2 times that above PyTorch's own loop."""
    width, rank = 2048, 2048
    travels = 4 * (2 * width * rank + 3 * width + 3)
    told, task = ended(service, tmp_path, 50, width=width, rank=rank)
    held = told["held"]
    subprocess.run([sys.executable, str(task)], env=ENVIRONMENT, check=True, timeout=100)
    bare = json.loads((tmp_path / "told.json").read_text())
    assert max(held[-12:]) - max(held[12:24]) < 0.2 * travels
    assert told["peak"] - bare["peak"] < 1.2 * travels
