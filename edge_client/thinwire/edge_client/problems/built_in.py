"""The built-in problems: a data source, a split, and an architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thinwire.edge_client.data import ClientInfo, Data

from .architectures import ARCHITECTURES
from .problem_file import LearningProblem, ProblemFileError, load_problem_file
from .public_sets import download
from .segmentation import SegmentationLoss
from .source import Source, read_digits, read_npz
from .splits import split

Tensors = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class ProblemOptions:
    """`data`: the npz file of a set that is not bundled; `downloads`: the folder of fetched sets, None: fetch nothing.
    `architecture`: instead of the problem's own. `train`, `test`: how many examples of the source to use. `classes`:
    how many there are, where the labels of one client's file may not show all; None: as many as they need.
    """

    data: Path | None = None
    downloads: Path | None = None
    architecture: str | None = None
    train: int | None = None
    test: int | None = None
    classes: int | None = None


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """`architecture`: the default. `proxy`: the share of training examples set aside, without targets, as proxy set."""

    architecture: str
    kind: str = "classes"
    proxy: float = 0.0


PROBLEMS: Final[Mapping[str, BuiltIn]] = {
    "digits": BuiltIn("digits_convnet", proxy=1 / 12),
    "mnist": BuiltIn("emnist_convnet", proxy=1 / 30),
    "fashion_mnist": BuiltIn("emnist_convnet", proxy=1 / 30),
    "cifar10": BuiltIn("cifar_convnet", proxy=1 / 25),
    "npz": BuiltIn("mlp"),
    "unet_npz": BuiltIn("unet", "maps"),
    "text_npz": BuiltIn("next_character", "text"),
}


def find_problem(text: str, options: ProblemOptions | None = None) -> LearningProblem:
    """The problem of a command line's `--task`: `digits`, `npz:FILE`, ..., or the path of a file ending in `.py`.

    Raises: `ProblemFileError`.
    """
    options = options or ProblemOptions()
    if text.endswith(".py"):
        return load_problem_file(Path(text))
    name, _, file = text.partition(":")
    entry = PROBLEMS.get(name)
    if entry is None:
        raise ProblemFileError(
            f"no task is named {name!r}; there are {', '.join(PROBLEMS)}, or give a file ending in .py"
        )
    architecture = options.architecture or entry.architecture
    if architecture not in ARCHITECTURES:
        raise ProblemFileError(f"no architecture is named {architecture!r}; there are {', '.join(ARCHITECTURES)}")
    try:
        source = _read(name, Path(file) if file else options.data, options.downloads)
        if options.train is not None or options.test is not None:
            source = source.limited(options.train, options.test)
        prepared = _Prepared(source, entry, options.classes)
    except ValueError as error:
        raise ProblemFileError(str(error)) from None

    def data(client: ClientInfo) -> Data:
        try:
            return prepared.data(client)
        except ValueError as error:
            raise ProblemFileError(str(error)) from None

    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    loss = SegmentationLoss() if entry.kind == "maps" else nn.CrossEntropyLoss()
    return LearningProblem(lambda: ARCHITECTURES[architecture](prepared.shape, prepared.outputs), data, loss)


@cache
def _read(name: str, file: Path | None, downloads: Path | None) -> Source:
    if name == "digits":
        return read_digits()
    if file is None and downloads is not None:
        file = download(name, downloads)
    if file is None:
        raise ValueError(
            f"the task {name} needs its data: --data FILE.npz"
            + ("" if name.endswith("npz") else ", or --download to fetch them")
        )
    return read_npz(file)


class _Prepared:
    """A source as one kind of learning problem sees it."""

    def __init__(self, source: Source, entry: BuiltIn, classes: int | None) -> None:
        self._source = source
        self._entry = entry
        self._labels = None if entry.kind == "maps" else source.y_train.astype(np.int64)
        if self._labels is not None and self._labels.ndim != 1:
            raise ValueError("targets of classes are one number per example")
        if entry.kind == "text":
            self.shape = source.x_train.shape[1:]
            self.outputs = 1 + int(max(source.x_train.max(), source.y_train.max(), source.x_test.max()))
        else:
            self.shape = _images(source.x_train[:1]).shape[1:]
            self.outputs = 1 if self._labels is None else 1 + int(max(self._labels.max(), source.y_test.max()))
        if classes is not None:
            if self._labels is None:
                raise ValueError("maps have no classes; leave --classes out")
            if self.outputs > classes:
                raise ValueError(f"the labels go up to {self.outputs - 1}, and --classes {classes} are counted from 0")
            self.outputs = classes
        # The same on all clients, whatever the split and its seed.
        order = np.random.default_rng(1).permutation(len(source.x_train))
        aside = round(entry.proxy * len(order))
        self._proxy, self._private = np.sort(order[:aside]), np.sort(order[aside:])

    def data(self, client: ClientInfo) -> Data:
        """Raises: `ValueError`."""
        source, private = self._source, self._private
        labels = None if self._labels is None else self._labels[private]
        owners = None if source.owners_train is None else source.owners_train[private]
        shares = split(client.split, labels, owners, client.clients, len(private), client.seed)
        mine = private[shares[client.index]]
        return Data(
            train=self._tensors(source.x_train[mine], source.y_train[mine]),
            evaluation=self._tensors(*self._even_share(client)),
            personal=self._personal(client, mine),
            proxy=(self._inputs(source.x_train[self._proxy]),) if len(self._proxy) else None,
        )

    def _even_share(self, client: ClientInfo) -> tuple[NDArray[Any], NDArray[Any]]:
        order = np.random.default_rng(2).permutation(len(self._source.x_test))
        mine = np.sort(order[client.index :: client.clients])
        return self._source.x_test[mine], self._source.y_test[mine]

    def _personal(self, client: ClientInfo, mine: NDArray[np.int64]) -> Tensors | None:
        """Test examples of the client's own owners, or else as many of each class as its training set has of it."""
        source = self._source
        if client.split == "natural" and source.owners_train is not None and source.owners_test is not None:
            chosen = np.flatnonzero(np.isin(source.owners_test, source.owners_train[mine]))
        elif self._labels is None:
            return None
        else:
            chosen = _like(self._labels[mine], source.y_test, np.random.default_rng([3, client.seed, client.index]))
        return self._tensors(source.x_test[chosen], source.y_test[chosen]) if len(chosen) else None

    def _inputs(self, inputs: NDArray[Any]) -> torch.Tensor:
        if self._entry.kind == "text":
            return torch.from_numpy(inputs.astype(np.int64))
        return torch.from_numpy(_images(inputs))

    def _tensors(self, inputs: NDArray[Any], targets: NDArray[Any]) -> Tensors:
        dtype = np.float32 if self._entry.kind == "maps" else np.int64
        return self._inputs(inputs), torch.from_numpy(targets.astype(dtype))


def _images(raw: NDArray[Any]) -> NDArray[np.float32]:
    """(n, channels, height, width), bytes scaled from 0..255 to -1..1; other arrays as they are, in float32."""
    if raw.ndim == 3:
        raw = raw[:, None]
    elif raw.ndim == 4 and raw.shape[3] <= 4 < raw.shape[1]:
        raw = raw.transpose(0, 3, 1, 2)
    scaled = np.array(raw, np.float32, order="C")
    if raw.dtype == np.uint8:
        scaled /= np.float32(127.5)
        scaled -= np.float32(1)
    return scaled


def _like(labels: NDArray[Any], tested: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """The largest selection of test examples, without repetition, whose classes have the proportions of `labels`."""
    classes, counts = np.unique(labels, return_counts=True)
    pools = [rng.permutation(np.flatnonzero(tested == label)) for label in classes]
    factor = min((len(pool) / count for pool, count in zip(pools, counts, strict=True) if len(pool)), default=0.0)
    chosen = [pool[: round(factor * count)] for pool, count in zip(pools, counts, strict=True)]
    return np.sort(np.concatenate(chosen))
