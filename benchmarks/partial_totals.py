"""What one exact total would cost a link in the place of the answers of a site: bytes of both, by chain and devices.

Updates of devices that trained for one pass over their own share of the digits, from one model (301,066 values),
through each chain; the total is `ExactSum`'s of what the chain gives back. Its integers are written as they would be:
the sign in the lowest bit, byte by byte (all first bytes, then all second ones, ...), each plane by Zstandard where
that is shorter. `python -m benchmarks.partial_totals`
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from rich.console import Console
from torch.nn import functional

from benchmarks.tables import Table
from thinwire.codecs import Array, Arrays, Chain, Spec
from thinwire.edge_client.problems.architectures import mlp
from thinwire.edge_client.problems.source import read_digits
from thinwire.machine.quantities import in_bytes
from thinwire.methods.reducers import Bounds
from thinwire.methods.sums import ExactSum, Total
from thinwire.methods.values import Contribution
from thinwire.protocol.settings import RunSettings

CHAINS: Final = (
    "byte_shuffle, zstd", "cast(f16), byte_shuffle(2), zstd", "quantise(8), zstd", "quantise(4), entropy",
    "quantise(2), entropy",
)  # fmt: skip
DEVICES: Final = (2, 8, 32, 128)
BATCH: Final = 32
EPOCHS: Final = 4
LEVEL: Final = 9


def updates(devices: int) -> Iterator[tuple[int, Arrays]]:
    """Of each device its number of examples and its update, float32."""
    source = read_digits()
    inputs = torch.from_numpy(source.x_train).float().div(255).sub(0.5).mul(2)
    targets = torch.from_numpy(source.y_train)
    torch.manual_seed(0)
    model = mlp(tuple(inputs.shape[1:]), 10, (512, 512))
    for _ in range(EPOCHS):
        _pass_over(model, inputs, targets)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for index in range(devices):
        model.load_state_dict(start)
        _pass_over(model, inputs[index::devices], targets[index::devices])
        trained = model.state_dict()
        yield len(targets[index::devices]), {name: (trained[name] - start[name]).numpy() for name in start}


def _pass_over(model: torch.nn.Module, inputs: Any, targets: Any) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    for chosen in torch.randperm(len(inputs)).split(BATCH):  # type: ignore[no-untyped-call]
        optimiser.zero_grad()
        functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def total_bytes(total: Total) -> int:
    """Of an exact total, written losslessly."""
    return sum(_planes(one) for one in total.sums.values()) + 8 * len(total.sums)


def _planes(sums: NDArray[np.int64]) -> int:
    folded = ((sums << 1) ^ (sums >> 63)).astype("<u8").reshape(-1)
    planes: Array = folded.view(np.uint8).reshape(-1, 8).T
    return sum(_plane(np.ascontiguousarray(plane).tobytes()) for plane in planes)


def _plane(data: bytes) -> int:
    return 1 + min(len(data), len(zstandard.ZstdCompressor(level=LEVEL).compress(data)))


def main() -> None:
    """Prints the table."""
    rows, run = [], RunSettings(name="site", rounds=1, cohort=max(DEVICES))
    reducer = ExactSum(Bounds(run.cohort, run.max_examples, run.max_value))
    for devices in DEVICES:
        trained = list(updates(devices))
        for text in CHAINS:
            chain, total, sent = Chain.parse(text), reducer.zero(), 0
            for slot, (examples, update) in enumerate(trained):
                spec = Spec.of(update)
                answer = chain.encode(update, spec, seed=slot)
                sent += len(answer)
                arrays = chain.decode(answer, spec, seed=slot)
                total = reducer.add(total, reducer.check(Contribution(slot, f"{slot}", examples, arrays)))
            whole = total_bytes(total)
            less = "total" if whole < sent else "answers"
            rows.append((text, f"{devices}", in_bytes(sent), in_bytes(whole), f"{sent / whole:.2f}", less))
    columns = ("chain up", "devices", "their answers", "one exact total", "ratio", "fewer bytes")
    Table("bytes of one exchange over a site's link, up", columns, rows).show(Console())


if __name__ == "__main__":
    main()
