"""How much faster a compact model is than the dense one that computes the same: `python -m benchmarks.compact`.

Each matrix is truncated at one energy, found by bisection so that the wanted share of the parameters is left; both
models then compute the same function (the largest difference of their outputs is shown). Inference on one thread, the
two in turn; the medians of many passes are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import nn

from benchmarks.tables import Table
from thinwire.codecs.decomposition import Unfolding
from thinwire.edge_client.problems.architectures import ARCHITECTURES
from thinwire.methods.feddlr.compact import compact_model, truncate_model
from thinwire.operator.console import console

MODELS: Final = {"conv4": (1, 28, 28), "resnet18": (3, 32, 32), "conv6": (3, 32, 32)}
SHARES: Final = (0.5, 0.3)
BATCHES: Final = (1, 32)


@dataclass(frozen=True, slots=True)
class Speed:
    """One comparison. `parameters`: of the compact model, as a share; times in seconds; `difference`: of outputs."""

    name: str
    batch: int
    parameters: float
    dense_s: float
    compact_s: float
    difference: float

    @property
    def speedup(self) -> float:
        return self.dense_s / self.compact_s

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def speeds(*, quick: bool) -> list[Speed]:
    """All models, shares, unfoldings and batches; one model where it has to be quick."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        chosen = list(MODELS)[:1] if quick else list(MODELS)
        return [
            _speed(name, unfolding, share, batch, 10 if quick else 30)
            for name in chosen
            for unfolding in ("channel", "spatial")
            for share in SHARES
            for batch in BATCHES
        ]
    finally:
        torch.set_num_threads(threads)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _speed(name: str, unfolding: Unfolding, share: float, batch: int, passes: int) -> Speed:
    torch.manual_seed(0)
    model = ARCHITECTURES[name](MODELS[name], 10).eval()
    low, high = 0.01, 0.99
    for _ in range(8):
        energy = (low + high) / 2
        left = _parameters(compact_model(model, energy=energy, unfolding=unfolding)) / _parameters(model)
        low, high = (energy, high) if left < share else (low, energy)
    dense = truncate_model(model, energy=low, unfolding=unfolding).eval()
    compact = compact_model(model, energy=low, unfolding=unfolding).eval()
    inputs = torch.randn(batch, *MODELS[name])
    times: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        outputs = dense(inputs), compact(inputs)
        for _ in range(passes):
            for one, taken in zip((dense, compact), times, strict=True):
                began = time.perf_counter()
                one(inputs)
                taken.append(time.perf_counter() - began)
    apart = float((outputs[0] - outputs[1]).abs().max())
    medians = [statistics.median(taken) for taken in times]
    left = _parameters(compact) / _parameters(model)
    return Speed(f"{name}, {unfolding}", batch, round(left, 3), medians[0], medians[1], apart)


def speed_table(measured: Sequence[Speed]) -> Table:
    """One row each."""
    columns = ("model, unfolding", "batch", "parameters", "dense ms", "compact ms", "faster", "outputs differ by")
    rows = [
        (
            one.name, str(one.batch), f"{100 * one.parameters:.0f} %", f"{1e3 * one.dense_s:.2f}",
            f"{1e3 * one.compact_s:.2f}", f"{one.speedup:.2f}x", f"{one.difference:.1e}",
        )
        for one in measured
    ]  # fmt: skip
    return Table("compact models, inference on one thread", columns, rows)


if __name__ == "__main__":
    speed_table(speeds(quick=False)).show(console())
