"""Examples as client halves see them."""

from __future__ import annotations

import hashlib
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
        """One pass over all examples, `size` at a time as `cuts` has it; shuffled by `seed`, in order without one."""
        order = None if seed is None else torch.from_numpy(np.random.default_rng(seed).permutation(len(self)))
        for chosen in cuts(len(self), size):
            rows: Any = chosen if order is None else order[chosen].to(self.inputs.device)
            yield self.inputs[rows], None if self.targets is None else self.targets[rows]

    def digest(self, chosen: torch.Tensor) -> bytes:
        """Names what these examples hold: 8 bytes, of inputs and targets, their dtypes and shapes."""
        found = hashlib.sha256()
        for part in (self.inputs, self.targets):
            if part is not None:
                rows = part[chosen.to(part.device)].detach().cpu().contiguous()
                found.update(f"{rows.dtype} {tuple(rows.shape)}".encode())
                found.update(rows.view(torch.uint8).numpy().tobytes() if rows.numel() else b"")
        return found.digest()[:8]

    def not_finite(self) -> torch.Tensor:
        """Indices of the examples that hold a number which is not finite."""
        found = torch.zeros(len(self), dtype=torch.bool, device=self.inputs.device)
        for part in (self.inputs, self.targets):
            if part is not None and part.is_floating_point():
                found |= ~torch.isfinite(part).reshape(len(part), -1).all(1)
        return found.nonzero()[:, 0]


def cuts(count: int, size: int) -> Iterator[slice]:
    """The batches of a pass over so many examples. A rest of one joins the batch before it: batch normalisation has no
    variance of one example, and refuses it.
    """
    start = 0
    while start < count:
        stop = start + size
        if size > 1 and count - stop == 1:
            stop = count
        yield slice(start, stop)
        start = stop
