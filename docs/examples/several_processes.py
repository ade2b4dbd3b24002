"""One client, several processes: its own loop with DistributedDataParallel. Only the first process speaks.

    thinwire-client model init --task docs/examples/several_processes.py --out first.safetensors
    PROCESSES=4 thinwire-client join URL --invite-file invite --task docs/examples/several_processes.py

The client calls `fit` in its own process, which becomes rank 0: it alone knows the coordinator, and what its model has
become is the answer. The others are forked from it, so they have model and examples without asking, and end with the
task. With GPUs: "nccl" for "gloo", and `model.to(rank)`.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
from breast_cancer import data, model
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from thinwire.methods.work import Work

__all__ = ["data", "fit", "loss", "model"]
# The mean over a batch's examples: with weights of classes, the slices' means would have no mean of theirs.
loss = nn.CrossEntropyLoss()
_PATIENCE = timedelta(seconds=60)


def fit(model: nn.Module, work: Work) -> float:
    processes = int(os.environ.get("PROCESSES", "2"))
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        others = [
            context.Process(target=_train, args=(model, work, rank, processes, meeting), daemon=True)
            for rank in range(1, processes)
        ]
        for other in others:
            other.start()
        try:
            return _train(model, work, 0, processes, meeting)
        finally:
            for other in others:
                other.join(_PATIENCE.total_seconds())
                other.kill()


def _train(model: nn.Module, work: Work, rank: int, processes: int, meeting: Path) -> float:
    """All ranks go through the same batches in the same order, each with its own slice of every batch."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes, timeout=_PATIENCE
    )
    try:
        together = DistributedDataParallel(model)
        optimizer = work.optimizer()
        mean = 0.0
        for epoch in range(work.epochs):
            summed, seen = torch.zeros(1), 0
            for inputs, targets in work.batches(epoch):
                # Ranks are averaged: a slice weighs as much as it holds, and a rank without one takes part for nothing.
                share = len(targets[rank::processes]) * processes / len(targets)
                mine = slice(rank, None, processes) if share else slice(None)
                optimizer.zero_grad()
                value = share * work.loss(together(inputs[mine]), targets[mine])
                value.backward()
                optimizer.step()
                summed += value.detach() * len(targets) / processes
                seen += len(targets)
            distributed.all_reduce(summed)
            mean = float(summed) / max(seen, 1)
        return mean
    finally:
        distributed.destroy_process_group()
