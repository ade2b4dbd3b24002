"""The final model as it is stored: a seed and an entropy-coded mask, some kilobytes; and back, without torch."""

from __future__ import annotations

from typing import Any, Final

import msgpack
import numpy as np

from thinwire.codecs import Arrays, ArraySpec, Chain, CodecError, Spec
from thinwire.methods.arrays import Model, buffers_of
from thinwire.methods.sparse_masks import PRETRAINED, SparseMasksSettings, Weights
from thinwire.methods.sparse_masks.frozen import digest_of, frozen_weights, maskable, theta_of_counts

HEADER: Final = "sparse-masks.header"
MASK: Final = "sparse-masks.mask"
_CHAIN: Final = Chain.parse("entropy")


def pack_model(
    spec: Spec,
    shares: Arrays,
    dense: Arrays,
    seed: int,
    weights: Weights,
    masks: int = 0,
    *,
    base: bytes | None = None,
) -> Model:
    """`MASK` (the shares coded by `entropy`) and `HEADER` (msgpack: seed, weights, spec of the whole model; `counts`
    where shares are counts; `masked`, names, where not all have masks that can), both uint8, and the arrays that have
    no mask, as they are.

    `shares`: how much of each weight stays: a mask, bool; or counts of so many `masks` (`theta_of_counts`), u8 or u16.
    `base`: by what the trained weights behind the masks are known, which are not in the file.
    """
    header: dict[str, Any] = {"seed": seed, "weights": weights, "spec": spec.to_plain()}
    if base is not None:
        header |= {"weights": PRETRAINED, "base": base}
    if list(shares) != list(maskable(spec, buffers_of(dense))):
        header["masked"] = list(shares)
    dtype = next(iter(Spec.of(shares).values())).dtype
    if dtype != "bool":
        header["counts"] = [dtype, masks]
    coded = _CHAIN.encode(shares, Spec.of(shares))
    packed = {HEADER: np.frombuffer(msgpack.packb(header), np.uint8), MASK: np.frombuffer(coded, np.uint8), **dense}
    return Model(packed, buffers_of(dense))


def is_packed(arrays: Arrays) -> bool:
    """Whether these are the arrays of a packed model."""
    return HEADER in arrays and MASK in arrays


def needs_start(arrays: Arrays) -> bool:
    """Of a packed model: whether its weights are those of a trained one, which is not in the file."""
    try:
        return bool(msgpack.unpackb(arrays[HEADER].tobytes())["weights"] == PRETRAINED)
    except (KeyError, TypeError, ValueError, msgpack.UnpackException):
        return False


def expand(arrays: Arrays, start: Arrays | None = None) -> Model:
    """The arrays of the model in its own order, float32: frozen weights times their shares. `start`: the run's first
    model, where masks stand on a trained one.

    Raises: `malformed`, or what decoding raises; `does-not-fit`: no start, or another one than the run's.
    """
    try:
        header = msgpack.unpackb(arrays[HEADER].tobytes())
        seed, spec = int(header["seed"]), Spec.from_plain(header["spec"])
        base = bytes(header["base"]) if header["weights"] == PRETRAINED else None
        weights = "signed" if base else SparseMasksSettings.model_validate({"weights": header["weights"]}).weights
        named = [str(name) for name in header["masked"]] if "masked" in header else None
        dtype, masks = header.get("counts", ("bool", 0))
        if dtype not in ("bool", "u8", "u16"):
            raise ValueError(dtype)
        masks = int(masks)
    except (AttributeError, KeyError, TypeError, ValueError, msgpack.UnpackException):
        raise CodecError("malformed", "not the arrays of a packed model") from None
    buffers = buffers_of(arrays)
    masked = maskable(spec, buffers)
    if named is not None:
        masked = Spec((name, spec[name]) for name in named if name in masked)
    missing = [name for name in spec if name not in masked and name not in arrays]
    if missing:
        raise CodecError("malformed", f"array {missing[0]!r} of the packed model is missing")
    coded = Spec((name, ArraySpec(dtype, item.shape)) for name, item in masked.items())
    shares = _CHAIN.decode(arrays[MASK].tobytes(), coded)
    if dtype != "bool":
        shares = {name: theta_of_counts(counts, masks) for name, counts in shares.items()}
    frozen = frozen_weights(spec, seed, weights, buffers, masked) if base is None else _of_start(start, masked, base)
    found = {
        name: (frozen[name] * shares[name]).astype(np.float32) if name in masked else arrays[name] for name in spec
    }
    spec.check(found)
    return Model(found, buffers)


def _of_start(start: Arrays | None, masked: Spec, base: bytes) -> Arrays:
    if start is None:
        raise CodecError("does-not-fit", "the masks stand on a trained model: give the run's first model as the start")
    found = {name: start[name] for name in masked if name in start}
    if digest_of(found) != base:
        raise CodecError("does-not-fit", "the start is another model than the one that the masks stand on")
    return found
