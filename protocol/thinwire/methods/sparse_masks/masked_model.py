"""The final model as it is stored: a seed and an entropy-coded mask, some kilobytes; and back, without torch."""

from __future__ import annotations

from typing import Final

import msgpack
import numpy as np

from thinwire.codecs import Array, Arrays, ArraySpec, Chain, CodecError, Spec
from thinwire.methods.sparse_masks import SparseMasksSettings, Weights
from thinwire.methods.sparse_masks.frozen import frozen_weights, maskable

HEADER: Final = "sparse-masks.header"
MASK: Final = "sparse-masks.mask"
_CHAIN: Final = Chain.parse("entropy")


def pack_model(spec: Spec, masks: Arrays, dense: Arrays, seed: int, weights: Weights) -> dict[str, Array]:
    """`MASK` (the masks coded by `entropy`) and `HEADER` (msgpack: seed, weights, spec of the whole model), both uint8,
    and the arrays that have no mask, as they are.
    """
    header = msgpack.packb({"seed": seed, "weights": weights, "spec": spec.to_plain()})
    coded = _CHAIN.encode(masks, Spec.of(masks))
    return {HEADER: np.frombuffer(header, np.uint8), MASK: np.frombuffer(coded, np.uint8), **dense}


def is_packed(arrays: Arrays) -> bool:
    """Whether these are the arrays of a packed model."""
    return HEADER in arrays and MASK in arrays


def expand(arrays: Arrays) -> dict[str, Array]:
    """The arrays of the model in its own order: frozen weights where the mask is 1, else 0, float32.

    Raises: `malformed`, or what decoding raises.
    """
    try:
        header = msgpack.unpackb(arrays[HEADER].tobytes())
        seed, spec = int(header["seed"]), Spec.from_plain(header["spec"])
        weights = SparseMasksSettings.model_validate({"weights": header["weights"]}).weights
    except (KeyError, TypeError, ValueError, msgpack.UnpackException):
        raise CodecError("malformed", "not the arrays of a packed model") from None
    masked = maskable(spec)
    masks = _CHAIN.decode(arrays[MASK].tobytes(), Spec(_as_masks(masked)))
    frozen = frozen_weights(spec, seed, weights)
    found = {name: frozen[name] * masks[name] if name in masked else arrays[name] for name in spec}
    spec.check(found)
    return found


def _as_masks(spec: Spec) -> list[tuple[str, ArraySpec]]:
    return [(name, ArraySpec("bool", item.shape)) for name, item in spec.items()]
