"""Map-style Datasets: examples are fetched by their numbers, in our order, and never all in memory.

What is random about an example (augmentation) follows from a seed and its number alone: torch's, numpy's and Python's
own generators are set before each is fetched, so that it is the same in whichever process that happens.
"""

from __future__ import annotations

import multiprocessing
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from thinwire.methods.inputs import Inputs, count_of, mapped
from thinwire.methods.samples import Batch, TensorSamples, cuts, elements_of, shuffled

_AT_ONCE = 64
_WORD = (1 << 64) - 1
Key = tuple[int, int]
"""The seed of a pass, and the number of an example."""


def split_batch(given: Any) -> tuple[Inputs, torch.Tensor | None]:
    """Inputs and targets of a batch: a pair; a dict with `labels`; inputs alone. Raises: `TypeError`."""
    targets: Any = None
    if isinstance(given, tuple | list) and len(given) in (1, 2):
        given, targets = (given[0], None) if len(given) == 1 else given
    elif isinstance(given, Mapping) and "labels" in given:
        targets = given["labels"]
        given = {name: part for name, part in given.items() if name != "labels"}
    elif isinstance(given, tuple | list):
        raise TypeError(f"a batch of {len(given)} parts; several inputs stand together: ((a, b), targets)")
    inputs: Any = dict(given) if isinstance(given, Mapping) else tuple(given) if isinstance(given, list) else given
    wrong = [part for part in _leaves(inputs, targets) if not isinstance(part, torch.Tensor)]
    if wrong:
        raise TypeError(f"it holds a {type(wrong[0]).__name__} where a tensor belongs")
    return inputs, targets


def _leaves(inputs: Any, targets: Any) -> list[Any]:
    within = inputs if isinstance(inputs, tuple) else inputs.values() if isinstance(inputs, dict) else [inputs]
    return [*within, *([] if targets is None else [targets])]


def _collated(examples: list[Any]) -> Any:
    """torch's default, but for Python's own floats, which become those that models are made of."""
    return default_collate([_of_floats(example) for example in examples])


def _of_floats(example: Any) -> Any:
    if isinstance(example, tuple):
        return tuple(torch.as_tensor(part) if isinstance(part, float) else part for part in example)
    return example


class _Fetched(Dataset[Any]):
    """The examples of a Dataset by seed and number."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Any:
        _seed(*key)
        return self.dataset[key[1]]


def _seed(seed: int, number: int) -> None:
    words = np.random.SeedSequence([seed & _WORD, number]).generate_state(2, np.uint64)
    torch.default_generator.manual_seed(int(words[0]))
    random.seed(int(words[1]))
    np.random.seed(int(words[1]) & 0xFFFFFFFF)  # what users' transforms draw from


@contextmanager
def _generators_kept() -> Iterator[None]:
    """The random numbers to come stay the same: dropout draws from one of these generators."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


class _Order:
    """Which examples a pass fetches, batch by batch."""

    def __init__(self) -> None:
        self.keys: Sequence[list[Key]] = ()

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


class DatasetSamples:
    """See `thinwire.methods.samples.Samples`, which this is. Worker processes live as long as the client does."""

    def __init__(
        self,
        dataset: Any,
        device: torch.device,
        *,
        collate: Callable[[list[Any]], Any] | None = None,
        workers: int = 0,
        which: str = "train",
    ) -> None:
        self.device = device
        self._fetched = _Fetched(dataset)
        self._collate = collate or _collated
        self._workers = workers
        self._which = which
        self._order = _Order()
        self._loader: DataLoader[Any] | None = None
        self._labels: torch.Tensor | None = None
        self._first: Batch | None = None

    @property
    def has_targets(self) -> bool:
        return len(self) > 0 and self._example.targets is not None

    @property
    def numbered(self) -> bool:
        return True

    @property
    def elements(self) -> int:
        return elements_of(self._example.inputs)

    @property
    def _example(self) -> Batch:
        if self._first is None:
            self._first = self.take(torch.zeros(1, dtype=torch.int64))
        return self._first

    def __len__(self) -> int:
        return len(self._fetched.dataset)

    def read(self, rows: Iterable[torch.Tensor], seed: int = 0) -> Iterator[Batch]:
        wanted = [one.cpu() for one in rows]
        keys = [[(seed, number) for number in one.tolist()] for one in wanted]
        for one, given in zip(wanted, self._by_workers(keys) if self._workers else self._here(keys), strict=True):
            yield self._batch(given, one)

    def take(self, rows: torch.Tensor) -> Batch:
        (given,) = self._here([[(0, number) for number in rows.tolist()]])
        return self._batch(given, rows)

    def batches(self, size: int, seed: int | None = None) -> Iterator[Batch]:
        if seed is not None:
            return self.read(shuffled(len(self), size, seed), seed)
        every = torch.arange(len(self))
        return self.read(every[chosen] for chosen in cuts(len(self), size))

    def targets(self) -> torch.Tensor:
        if self._labels is None:
            found = [batch.pair[1].cpu() for batch in self.read(torch.split(torch.arange(len(self)), _AT_ONCE))]
            self._labels = torch.cat(found)
        return self._labels

    def few(self, count: int) -> TensorSamples:
        batch = self.take(torch.arange(min(count, len(self))))
        return TensorSamples(batch.inputs, batch.targets, self.device)

    def not_finite(self) -> torch.Tensor:
        bad = []
        for batch in self.read(torch.split(torch.arange(len(self)), _AT_ONCE)):
            rows = TensorSamples(batch.inputs, batch.targets).not_finite()
            if batch.rows is not None:
                bad.append(batch.rows[rows])
        return torch.cat(bad)

    def _here(self, keys: Iterable[list[Key]]) -> Iterator[Any]:
        for chosen in keys:
            with _generators_kept():
                given = self._collate([self._fetched[key] for key in chosen])
            yield given

    def _by_workers(self, keys: Sequence[list[Key]]) -> Iterator[Any]:
        self._order.keys = keys
        with warnings.catch_warnings():
            # A client says itself how many processes it wants, and threads of ours hold no lock that they could need.
            warnings.simplefilter("ignore")
            if self._loader is None:
                forks = "fork" in multiprocessing.get_all_start_methods()
                self._loader = DataLoader(
                    self._fetched,
                    batch_sampler=self._order,
                    num_workers=self._workers,
                    collate_fn=self._collate,
                    persistent_workers=True,
                    # Of its own: the model's random numbers are not to depend on who fetches.
                    generator=torch.Generator(),
                    multiprocessing_context="fork" if forks else None,
                )
            return iter(self._loader)

    def _batch(self, given: Any, rows: torch.Tensor) -> Batch:
        try:
            inputs, targets = split_batch(given)
        except TypeError as error:
            raise TypeError(f"data().{self._which}: {error}; an example is a pair (inputs, targets)") from None
        if count_of(inputs) != len(rows):
            raise TypeError(f"data().{self._which}: a batch of {len(rows)} examples holds {count_of(inputs)}")
        return Batch(
            mapped(inputs, lambda part: part.to(self.device)),
            None if targets is None else targets.to(self.device),
            rows,
        )
