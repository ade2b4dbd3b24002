"""Model files: safetensors, with the order of the arrays, which the format does not keep, in the metadata.

Methods cut models by that order, so it belongs to a model. Under the key `order`: the names, as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from thinwire.codecs import Array, Arrays, CodecError, Spec
from thinwire.protocol.reasons import ProblemError

_ORDER: Final = "order"


def model_bytes(arrays: Arrays) -> bytes:
    """The model file of these arrays, in whatever layout they lie in memory; the same arrays give the same bytes."""
    # The library takes what lies at an array's first address for the whole of it, in C order.
    laid_out = {
        name: np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()
    }
    return save(laid_out, metadata={_ORDER: json.dumps(list(arrays))})


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a model file, in the order of the model they came from where the file says it, else by name.

    Raises: `run-invalid` (not such a file, or arrays that cannot travel), `OSError`.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            ranks = _ranks((file.metadata() or {}).get(_ORDER, "[]"))
            names = sorted(file.keys(), key=lambda name: (ranks.get(name, len(ranks)), name))
            arrays: dict[str, Array] = {name: file.get_tensor(name) for name in names}
        Spec.of(arrays)
    except (SafetensorError, CodecError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProblemError("run-invalid", f"not a model file (safetensors): {error}") from None
    return arrays


def read_model(path: Path) -> dict[str, Array]:
    """As `read_arrays`, for a model that a run may start from. Raises: `run-invalid`, also where a value is not finite;
    `OSError`.
    """
    arrays = read_arrays(path)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ProblemError("run-invalid", f"array {name!r} of the model holds a value that is not finite")
    return arrays


def _ranks(order: str) -> dict[str, int]:
    """Raises: `ValueError`."""
    try:
        names = json.loads(order)
    except RecursionError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its order is no list of names")
    return {name: rank for rank, name in enumerate(names)}
