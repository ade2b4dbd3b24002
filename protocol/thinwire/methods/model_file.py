"""Model files: safetensors, with what the format does not keep, and methods need, in the metadata, as JSON.

Under the key `order`: the names in the order of the model's arrays; under `buffers`, where there are any: the names of
those that are not trained; under `frozen`, where there are any: marks of what does not travel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from thinwire.codecs import Array, Arrays, CodecError, Spec
from thinwire.methods.arrays import Model, buffers_of
from thinwire.protocol.reasons import ProblemError

_ORDER: Final = "order"
_BUFFERS: Final = "buffers"
_FROZEN: Final = "frozen"


def model_bytes(arrays: Arrays) -> bytes:
    """The model file of these arrays, in whatever layout they lie in memory; the same arrays give the same bytes."""
    # The library takes what lies at an array's first address for the whole of it, in C order.
    laid_out = {
        name: np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()
    }
    buffers = [name for name in arrays if name in buffers_of(arrays)]
    marks = {_BUFFERS: json.dumps(buffers)} if buffers else {}
    if isinstance(arrays, Model) and arrays.frozen:
        marks[_FROZEN] = json.dumps(arrays.frozen)
    return save(laid_out, metadata={_ORDER: json.dumps(list(arrays)), **marks})


def read_arrays(path: Path) -> Model:
    """The arrays of a model file, in the order of the model they came from where the file says it, else by name.

    Raises: `run-invalid` (not such a file, or arrays that cannot travel), `OSError`.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            ranks = {name: rank for rank, name in enumerate(_names(metadata, _ORDER))}
            names = sorted(file.keys(), key=lambda name: (ranks.get(name, len(ranks)), name))
            arrays: dict[str, Array] = {name: file.get_tensor(name) for name in names}
        Spec.of(arrays)
        buffers, frozen = _names(metadata, _BUFFERS), _names(metadata, _FROZEN)
    except (SafetensorError, CodecError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProblemError("run-invalid", f"not a model file (safetensors): {error}") from None
    return Model(arrays, [name for name in buffers if name in arrays], frozen)


def read_model(path: Path) -> Model:
    """As `read_arrays`, for a model that a run may start from. Raises: `run-invalid`, also where a value is not finite
    (of a buffer: NaN; a mask may hold infinity); `OSError`.
    """
    model = read_arrays(path)
    buffers = buffers_of(model)
    for name, array in model.items():
        if array.dtype.kind == "f" and not (~np.isnan(array) if name in buffers else np.isfinite(array)).all():
            raise ProblemError("run-invalid", f"array {name!r} of the model holds a value that is not finite")
    return model


def _names(metadata: Mapping[str, str], key: str) -> list[str]:
    """Raises: `ValueError`."""
    try:
        names = json.loads(metadata.get(key, "[]"))
    except RecursionError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"its {key} is no list of names")
    return names
