"""Passes over examples as a data set of torch: one item for each batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import IterableDataset


class Passes(IterableDataset[Any]):
    """`begin()`: the batches of the next pass; `length`: how many there are."""

    def __init__(self, begin: Callable[[], Iterator[Any]], length: int) -> None:
        self._begin = begin
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return self._begin()
