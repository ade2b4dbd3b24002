"""Named arrays: under headings, of which kind, equal to the bit."""

from __future__ import annotations

from typing import Final

import numpy as np

from thinwire.codecs import Array, Arrays, CodecError, Spec

_STATISTICS: Final = ("running_mean", "running_var")


def under(heading: str, arrays: Arrays) -> dict[str, Array]:
    """The arrays of a state that stand under this heading, `heading/NAME`, by NAME."""
    start = f"{heading}/"
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}


def headed(heading: str, arrays: Arrays) -> dict[str, Array]:
    """The inverse of `under`."""
    return {f"{heading}/{name}": array for name, array in arrays.items()}


def check_floating(model: Arrays) -> None:
    """Raises `bad-spec` unless the model is made of floating arrays, at least one."""
    spec = Spec.of(model)
    if not len(spec):
        raise CodecError("bad-spec", "the model has no arrays")
    for name, item in spec.items():
        if not item.is_floating:
            raise CodecError("bad-spec", f"array {name!r} of the model is {item.dtype}; this method averages floats")


def is_statistic(name: str) -> bool:
    """Whether an array is a running statistic of a normalisation layer: averaged, never optimised."""
    return name.rpartition(".")[2] in _STATISTICS


def same_bits(first: Arrays, second: Arrays) -> bool:
    """Whether two bundles have the same names, dtypes, shapes and bits."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and np.asarray(first[name], order="C").tobytes() == np.asarray(second[name], order="C").tobytes()
        for name in first
    )
