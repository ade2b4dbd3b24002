"""Examples as client halves see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Samples:
    """Examples on one device. `inputs`: (n, ...) float or integer tensor; `targets`: (n, ...) or None (a proxy set)."""

    inputs: torch.Tensor
    targets: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, size: int, seed: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """One pass over all examples, at most `size` at a time; shuffled by `seed`, in order without one."""
        order = None if seed is None else torch.from_numpy(np.random.default_rng(seed).permutation(len(self)))
        for start in range(0, len(self), size):
            chosen: Any = slice(start, start + size)
            if order is not None:
                chosen = order[chosen].to(self.inputs.device)
            yield self.inputs[chosen], None if self.targets is None else self.targets[chosen]
