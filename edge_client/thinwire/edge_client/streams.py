"""Examples that come as a stream: passes over batches of its own, without numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NoReturn

import torch

from thinwire.methods.inputs import count_of, mapped
from thinwire.methods.samples import Batch, TensorSamples, elements_of

from .data import Stream
from .datasets import split_batch


class StreamSamples:
    """See `thinwire.methods.samples.Samples`, which this is. `round`: set by whoever begins a task."""

    def __init__(self, stream: Stream, device: torch.device) -> None:
        self.device = device
        self.round = 0
        self._stream = stream

    @property
    def has_targets(self) -> bool:
        return self._first().targets is not None

    @property
    def numbered(self) -> bool:
        return False

    @property
    def elements(self) -> int:
        return elements_of(self._first().inputs)

    def __len__(self) -> int:
        return self._stream.examples

    def read(self, rows: Iterable[torch.Tensor], seed: int = 0) -> NoReturn:
        raise TypeError("the examples of a Stream have no numbers")

    def take(self, rows: torch.Tensor) -> NoReturn:
        raise TypeError("the examples of a Stream have no numbers")

    def targets(self) -> NoReturn:
        raise TypeError("the examples of a Stream have no numbers")

    def batches(self, size: int, seed: int | None = None) -> Iterator[Batch]:
        for given in self._stream.open(seed or 0, self.round):
            yield self._batch(given)

    def few(self, count: int) -> TensorSamples:
        first = self._first()
        labels = None if first.targets is None else first.targets[:count]
        return TensorSamples(mapped(first.inputs, lambda part: part[:count]), labels, self.device)

    def not_finite(self) -> torch.Tensor:
        return torch.zeros(0, dtype=torch.int64)

    def _first(self) -> Batch:
        for given in islice(self._stream.open(0, self.round), 1):
            return self._batch(given)
        raise ValueError("the stream is empty")

    def _batch(self, given: Any) -> Batch:
        inputs, targets = split_batch(given)
        count_of(inputs)
        return Batch(
            mapped(inputs, lambda part: part.to(self.device)), None if targets is None else targets.to(self.device)
        )
