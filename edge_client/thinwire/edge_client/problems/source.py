"""Data sets as their files hold them: arrays of training and test examples, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_OWNERS: Final = ("client", "writer", "user")
"""`client_train` and `client_test`, say: whose each example is."""


@dataclass(frozen=True, slots=True)
class Source:
    """`x_*`: (n, ...) uint8 images, integers or floats; `y_*`: (n,) classes or (n, ...) maps; owners (n,) or None."""

    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]
    owners_train: NDArray[Any] | None = None
    owners_test: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            sizes = {
                len(array) for name in ("x", "y", "owners") if (array := getattr(self, f"{name}_{part}")) is not None
            }
            for name in ("x", "y"):
                array = getattr(self, f"{name}_{part}")
                if array.dtype.kind not in "biuf":
                    raise ValueError(f"{name}_{part} holds {array.dtype}, not numbers")
            if len(sizes) != 1 or 0 in sizes:
                raise ValueError(f"the {part} arrays are empty or not of one length")

    def limited(self, train: int | None, test: int | None) -> Source:
        """The first so many training and test examples of a fixed random order; None: all."""
        chosen = np.random.default_rng(0).permutation(len(self.x_train))[:train]
        tested = np.random.default_rng(0).permutation(len(self.x_test))[:test]
        found = self
        if train is not None:
            found = replace(
                found,
                x_train=self.x_train[chosen],
                y_train=self.y_train[chosen],
                owners_train=None if self.owners_train is None else self.owners_train[chosen],
            )
        if test is not None:
            found = replace(
                found,
                x_test=self.x_test[tested],
                y_test=self.y_test[tested],
                owners_test=None if self.owners_test is None else self.owners_test[tested],
            )
        return found


def read_npz(path: Path) -> Source:
    """The data of an npz file: `x_train`, `y_train`, `x_test`, `y_test`, optionally `client_train`, `client_test`.

    Nothing is unpickled. Raises: `ValueError`, with what is missing.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it is one array; an npz file holds several by name (numpy.savez)")
        with loaded as file:
            missing = [name for name in ("x_train", "y_train", "x_test", "y_test") if name not in file.files]
            if missing:
                raise ValueError(f"it holds no array {', '.join(missing)}")
            owner = next((name for name in _OWNERS if f"{name}_train" in file.files), None)
            owners = [
                file[f"{owner}_{part}"] if f"{owner}_{part}" in file.files else None for part in ("train", "test")
            ]
            return Source(file["x_train"], file["y_train"], file["x_test"], file["y_test"], *owners)
    except (OSError, ValueError) as error:
        raise ValueError(f"the data file {path} cannot be used: {error}") from None


def read_digits() -> Source:
    """The 1,797 8x8 digits that scikit-learn bundles (UCI, Alpaydin and Kaynak 1998), a fifth of them as test set."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError("the task digits needs scikit-learn; install thinwire[demo]") from None
    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    test, train = order[: len(order) // 5], order[len(order) // 5 :]
    labels = found.target.astype(np.int64)
    return Source(images[train], labels[train], images[test], labels[test])
