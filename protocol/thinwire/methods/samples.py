"""Examples as client halves see them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from .inputs import Inputs, count_of, mapped, parts_of

_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Batch:
    """Some examples on the learner's device. `targets`: (n, ...), None of a proxy set; `rows`: which ones, int64 (n,)
    on the CPU, None where examples have no numbers.
    """

    inputs: Inputs
    targets: torch.Tensor | None = None
    rows: torch.Tensor | None = None

    def __len__(self) -> int:
        return count_of(self.inputs)

    @property
    def pair(self) -> tuple[Inputs, torch.Tensor]:
        """Inputs and targets, which all examples to train on have."""
        assert self.targets is not None  # noqa: S101  # data() was checked for them
        return self.inputs, self.targets


class Samples(Protocol):
    """Examples that come to the device batch by batch. `device`: where batches lie; `has_targets`: False of a proxy
    set; `numbered`: whether `read`, `take` and `targets` are there, which streams have not; `elements`: how many
    numbers the inputs of one example have.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def has_targets(self) -> bool: ...

    @property
    def numbered(self) -> bool: ...

    @property
    def elements(self) -> int: ...

    def __len__(self) -> int: ...

    def read(self, rows: Iterable[torch.Tensor], seed: int = 0) -> Iterator[Batch]:
        """These examples, one batch for each of `rows`. What is random about an example follows from `seed` and its
        number.
        """

    def take(self, rows: torch.Tensor) -> Batch:
        """These examples, the same whenever they are asked for."""

    def batches(self, size: int, seed: int | None = None) -> Iterator[Batch]:
        """One pass over all examples, `size` at a time as `cuts` has it; shuffled by `seed`, in order without one. Of a
        stream: its own batches.
        """

    def targets(self) -> torch.Tensor:
        """Of all examples, in their order, on the CPU."""

    def few(self, count: int) -> TensorSamples:
        """The first so many."""

    def not_finite(self) -> torch.Tensor:
        """The numbers of the examples that hold one which is not finite; of a stream none are known."""


@dataclass(frozen=True, slots=True)
class TensorSamples:
    """Examples in memory. `inputs`: n of each tensor; `labels`: their targets, (n, ...) or None."""

    inputs: Inputs
    labels: torch.Tensor | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def has_targets(self) -> bool:
        return self.labels is not None

    @property
    def numbered(self) -> bool:
        return True

    @property
    def elements(self) -> int:
        return elements_of(self.inputs)

    def __len__(self) -> int:
        return count_of(self.inputs)

    def read(self, rows: Iterable[torch.Tensor], seed: int = 0) -> Iterator[Batch]:
        return map(self.take, rows)

    def take(self, rows: torch.Tensor) -> Batch:
        def chosen(part: torch.Tensor) -> torch.Tensor:
            return part[rows].to(self.device)

        return Batch(mapped(self.inputs, chosen), None if self.labels is None else chosen(self.labels), rows)

    def batches(self, size: int, seed: int | None = None) -> Iterator[Batch]:
        if seed is not None:
            yield from self.read(shuffled(len(self), size, seed))
            return
        for chosen in cuts(len(self), size):
            labels = None if self.labels is None else self.labels[chosen].to(self.device)
            inputs = mapped(self.inputs, lambda part, at=chosen: part[at].to(self.device))  # type: ignore[misc]
            yield Batch(inputs, labels, torch.arange(chosen.start, min(chosen.stop, len(self))))

    def targets(self) -> torch.Tensor:
        assert self.labels is not None  # noqa: S101  # data() was checked for them
        return self.labels.cpu()

    @property
    def batch(self) -> Batch:
        """All of them at once."""
        labels = None if self.labels is None else self.labels.to(self.device)
        return Batch(mapped(self.inputs, lambda part: part.to(self.device)), labels, torch.arange(len(self)))

    def few(self, count: int) -> TensorSamples:
        labels = None if self.labels is None else self.labels[:count]
        return TensorSamples(mapped(self.inputs, lambda part: part[:count]), labels, self.device)

    def not_finite(self) -> torch.Tensor:
        found = torch.zeros(len(self), dtype=torch.bool)
        for part in (*parts_of(self.inputs).values(), self.labels):
            if part is not None and part.is_floating_point():
                found |= ~torch.isfinite(part).reshape(len(part), -1).all(1).cpu()
        return found.nonzero()[:, 0]


def elements_of(inputs: Inputs) -> int:
    """Numbers in the inputs of one example."""
    return sum(part[0].numel() for part in parts_of(inputs).values())


def held(batch: Batch, device: torch.device) -> TensorSamples:
    """A batch as examples of their own."""
    return TensorSamples(batch.inputs, batch.targets, device)


def named(samples: Samples, rows: torch.Tensor) -> bytes:
    """What these examples hold, in 8 bytes: of inputs and targets, their dtypes and shapes."""
    found = hashlib.sha256()
    for batch in samples.read(torch.split(rows, _AT_ONCE)):
        for part in (*parts_of(batch.inputs).values(), batch.targets):
            if part is not None:
                values = part.detach().cpu().contiguous()
                found.update(f"{values.dtype} {tuple(values.shape)}".encode())
                found.update(values.reshape(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b"")
    return found.digest()[:8]


def in_order(samples: Samples, size: int = _AT_ONCE) -> Iterator[Batch]:
    """All examples, exactly `size` at a time but for the last ones."""
    return samples.read(torch.split(torch.arange(len(samples)), size))


def shuffled(count: int, size: int, seed: int) -> Iterator[torch.Tensor]:
    """All numbers below `count` in a random order, `size` at a time as `cuts` has it."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    for chosen in cuts(count, size):
        yield order[chosen]


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
