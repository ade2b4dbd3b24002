"""The arrays of a torch model: which travel, out and in."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from thinwire.codecs import Array, Arrays, CodecError, Spec


def model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """What travels of a model: parameters with requires_grad, then floating buffers, by name.

    Frozen parameters and integer buffers stay where they are. A tensor with two names travels once.
    """
    found: dict[str, torch.Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    kept = model.state_dict(keep_vars=True)
    for name, buffer in model.named_buffers():
        if name in kept and buffer.is_floating_point():
            found[name] = buffer
    return found


def model_arrays(model: nn.Module) -> dict[str, Array]:
    """Copies of `model_tensors` as numpy arrays."""
    return {name: t.detach().cpu().numpy().copy() for name, t in model_tensors(model).items()}


def model_spec(model: nn.Module) -> Spec:
    """The spec of `model_arrays`. Raises: `bad-spec` (a dtype that cannot travel, bfloat16 for one)."""
    try:
        return Spec.of(model_arrays(model))
    except TypeError as error:
        raise CodecError("bad-spec", f"the model holds a dtype that cannot travel: {error}") from None


def load_arrays(model: nn.Module, arrays: Arrays) -> None:
    """Sets these tensors of the model. Raises: `does-not-fit`."""
    tensors = model_tensors(model)
    with torch.no_grad():
        for name, array in arrays.items():
            tensor = tensors.get(name)
            if tensor is None or tuple(tensor.shape) != array.shape:
                raise CodecError("does-not-fit", f"the model has no tensor {name!r} of shape {array.shape}")
            tensor.copy_(torch.from_numpy(np.array(array)))


def laid_out(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers with the channels of a kernel, (out, in, h, w), last in memory; other tensors as they are.

    Convolutions and pooling are faster so on a CPU, with the same results to rounding.
    """
    # Kernels of three dimensions have another such format, and nothing to gain from it.
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
