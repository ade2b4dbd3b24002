"""One client, several processes: its own loop with DistributedDataParallel. Only the first process speaks.

    thinwire-client model init --task docs/examples/several_processes.py --out first.safetensors
    thinwire-client join URL --invite-file invite --task docs/examples/several_processes.py --device cuda:0,1

A process for each device: `--device cpu,cpu` are two on the processor. The client calls `fit` in its own process, which
becomes rank 0: it alone knows the coordinator and reads the examples, and what its model has become is the answer. The
others are this file, started as a program for each task: they get the weights from rank 0, and their slice of every
batch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import torch
from breast_cancer import data, model
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from thinwire.methods.work import Work

__all__ = ["data", "fit", "loss", "model", "optimizer"]
# The mean over a batch's examples: with weights of classes, the slices' means would have no mean of theirs.
loss = nn.CrossEntropyLoss()
_PATIENCE = timedelta(minutes=5)


def optimizer(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr, momentum=0.9)


def fit(model: nn.Module, work: Work) -> float:
    ranks = len(work.devices)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as others:
        meeting = f"file://{folder}/meeting"
        for rank in range(1, ranks):
            words = [meeting, str(rank), *map(str, work.devices)]
            other = subprocess.Popen([sys.executable, __file__, *words])  # noqa: S603
            others.enter_context(_ended(other))
        with _group(meeting, 0, work.devices):
            distributed.broadcast_object_list([work.lr], 0)
            together, own, mean = DistributedDataParallel(model), work.optimizer(), 0.0
            for epoch in range(work.epochs):
                summed, seen = 0.0, 0
                for inputs, targets in work.batches(epoch):
                    # Ranks are averaged: a slice weighs as much as it holds; a rank without one takes part for nothing.
                    slices = [slice(rank, None, ranks) if rank < len(targets) else slice(1) for rank in range(ranks)]
                    shares = [len(targets[rank::ranks]) * ranks / len(targets) for rank in range(ranks)]
                    pieces = [
                        (inputs[at].cpu(), targets[at].cpu(), share) for at, share in zip(slices, shares, strict=True)
                    ]
                    summed += _step(together, own, pieces, work.devices[0]) * len(targets)
                    seen += len(targets)
                mean = summed / seen
            distributed.scatter_object_list([None], [None] * ranks, 0)
            return mean


def _step(model: nn.Module, optimizer: Any, pieces: list[Any] | None, device: torch.device) -> float | None:
    """The mean loss of one batch, of which every rank takes the piece that rank 0 has for it; None where there is no
    batch any more. All ranks come to the same weights.
    """
    mine: list[Any] = [None]
    distributed.scatter_object_list(mine, pieces, 0)
    if mine[0] is None:
        return None
    inputs, targets, share = mine[0]
    optimizer.zero_grad()
    value = share * loss(model(inputs.to(device)), targets.to(device))
    value.backward()
    optimizer.step()
    mean = value.detach().cpu() / distributed.get_world_size()
    distributed.all_reduce(mean)
    return float(mean)


@contextmanager
def _group(meeting: str, rank: int, devices: tuple[torch.device, ...]) -> Iterator[None]:
    """Objects and numbers go by gloo, gradients on GPUs by nccl."""
    on_gpu = devices[rank].type == "cuda"
    if on_gpu:
        torch.cuda.set_device(devices[rank])
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        init_method=meeting,
        rank=rank,
        world_size=len(devices),
        timeout=_PATIENCE,
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """It has ended behind this: by itself where all went well."""
    try:
        yield
        process.wait(_PATIENCE.total_seconds())
    finally:
        process.kill()
        process.wait()


def _follow(meeting: str, rank: int, devices: tuple[torch.device, ...]) -> None:
    """What another rank does: the steps of rank 0. Does not return: threads of the group may outlive its end, and would
    abort an interpreter that cleans up.
    """
    torch.set_num_threads(1)
    with _group(meeting, rank, devices):
        lr: list[Any] = [None]
        distributed.broadcast_object_list(lr, 0)
        together = DistributedDataParallel(model().to(devices[rank]))
        own = optimizer(list(together.parameters()), lr[0])
        while _step(together, own, None, devices[rank]) is not None:
            pass
        os._exit(0)


if __name__ == "__main__":
    _follow(sys.argv[1], int(sys.argv[2]), tuple(map(torch.device, sys.argv[3:])))
