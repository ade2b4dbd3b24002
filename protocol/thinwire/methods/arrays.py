"""Named arrays: under headings, of which kind, equal to the bit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from thinwire.codecs import BUFFERS, Array, Arrays, CodecError, Spec

_VARIANCE: Final = "running_var"
_STATISTICS: Final = ("running_mean", _VARIANCE)


class Model(dict[str, Array]):
    """The arrays of a model, in its order. `buffers`: the names of those that are kept and not trained: running
    statistics, masks, what a normalisation remembers. `frozen`: marks of what never travels (`frozen_parts`), where the
    model comes from a problem, or a file that has them.
    """

    def __init__(self, arrays: Arrays, buffers: Iterable[str] = (), frozen: Iterable[str] = ()) -> None:
        super().__init__(arrays)
        self.buffers = frozenset(buffers)
        self.frozen = tuple(frozen)


def buffers_of(model: Arrays) -> frozenset[str]:
    """Of a model; of arrays that nobody has marked, the running statistics, which their names show."""
    marked = model.buffers if isinstance(model, Model) else frozenset[str]()
    return marked | {name for name in model if _last(name) in _STATISTICS}


def travelling(model: Arrays) -> dict[str, Array]:
    """The arrays of a model under the names by which they travel, and stand in states: buffers under `BUFFERS`."""
    buffers = buffers_of(model)
    return {f"{BUFFERS}{name}" if name in buffers else name: array for name, array in model.items()}


def own_name(name: str) -> str:
    """The name in its model of an array that travels."""
    return name.removeprefix(BUFFERS)


def arrived(arrays: Arrays) -> Model:
    """The inverse of `travelling`."""
    buffers = [own_name(name) for name in arrays if is_buffer(name)]
    return Model({own_name(name): array for name, array in arrays.items()}, buffers)


def is_buffer(name: str) -> bool:
    """Of an array that travels: averaged, never optimised, bounded, masked or quantised. States that an earlier version
    wrote hold running statistics under their own names.
    """
    return name.startswith(BUFFERS) or _last(name) in _STATISTICS


def moved(buffer: Array, by: Array, name: str) -> Array:
    """A buffer after the mean change of its copies, float64, in its own dtype; a variance stays at least zero."""
    after = buffer + by
    return np.asarray(np.maximum(after, 0) if _last(name) == _VARIANCE else after).astype(buffer.dtype)


def difference(after: Array, before: Array) -> Array:
    """How far an array has moved; nothing where both are equal, infinite ones too."""
    with np.errstate(invalid="ignore"):
        return np.where(after == before, np.zeros((), after.dtype), after - before)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


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


def check_finite(arrays: Arrays) -> None:
    """Raises `out-of-range` where a floating array holds NaN or infinity."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CodecError("out-of-range", f"array {name!r} holds a value that is not finite")


def are_finite(arrays: Arrays) -> bool:
    """Whether no floating array but the buffers holds NaN or infinity."""
    return all(
        name.startswith(BUFFERS) or array.dtype.kind != "f" or bool(np.isfinite(array).all())
        for name, array in arrays.items()
    )


def same_bits(first: Arrays, second: Arrays) -> bool:
    """Whether two bundles have the same names, dtypes, shapes and bits."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and np.asarray(first[name], order="C").tobytes() == np.asarray(second[name], order="C").tobytes()
        for name in first
    )
