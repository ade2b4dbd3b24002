"""The arrays of a torch model: which travel, out and in."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from types import MethodType
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm as SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm as SpectralNormHook

from thinwire.codecs import Array, Arrays, CodecError, Spec

from .arrays import Model, own_name

_TRAIN: Final = "train"
_COUNTER: Final = "num_batches_tracked"
_POWER_STEPS: Final = 30


def rest_frozen(model: nn.Module) -> None:
    """Modules that came in evaluation mode and hold nothing to train stay in it, whatever mode the model is put into: a
    frozen backbone is the same at every client, its statistics too.
    """
    for module in model.modules():
        parameters = list(module.parameters())
        if not module.training and parameters and not any(one.requires_grad for one in parameters):
            setattr(module, _TRAIN, MethodType(_rest, module))


def _rest(module: nn.Module, mode: bool = True) -> nn.Module:
    """In the place of `nn.Module.train`."""
    return module


class Factored(nn.Module, ABC):
    """A module that trains factors and whose `product`, a parameter, travels in their place.

    A mean of factors is no mean of products: what is averaged exactly is the product.
    """

    product: nn.Parameter
    factors: tuple[str, ...]

    @abstractmethod
    def gather(self) -> None:
        """Sets the product to that of the factors."""

    @abstractmethod
    def scatter(self) -> None:
        """Sets the factors to those of the product, the same for the same product."""


def _factored(model: nn.Module) -> list[Factored]:
    return [module for module in model.modules() if isinstance(module, Factored)]


def _factors(model: nn.Module) -> set[int]:
    """The ids of what is trained and never travels as it is."""
    return {id(getattr(module, name)) for module in _factored(model) for name in module.factors}


def products(model: nn.Module) -> set[int]:
    """The ids of parameters that travel for others, and get no gradient."""
    return {id(module.product) for module in _factored(model)}


def model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """What travels of a model: parameters with requires_grad, then floating buffers, by name; of factors their product.

    Frozen parameters, integer buffers and those of modules that rest (`rest_frozen`) stay where they are. A tensor with
    two names travels once.
    """
    for module in _factored(model):
        with torch.no_grad():
            module.gather()
    factors = _factors(model)
    found: dict[str, torch.Tensor] = {
        name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in factors
    }
    kept = model.state_dict(keep_vars=True)
    resting = {id(buffer) for module in model.modules() if _TRAIN in vars(module) for buffer in module.buffers()}
    for name, buffer in model.named_buffers():
        if name in kept and buffer.is_floating_point() and id(buffer) not in resting:
            found[name] = buffer
    return found


_NARROW: Final = (torch.bfloat16, torch.float16)


def as_array(tensor: torch.Tensor) -> Array:
    """A copy as it travels: floats of 16 bits are widened, so that means and small updates are not rounded away."""
    wide = tensor.detach().float() if tensor.dtype in _NARROW else tensor.detach()
    array: Array = wide.cpu().numpy().copy()
    return array


def as_tensor(array: Array, device: torch.device) -> torch.Tensor:
    """A copy in torch's own memory. Numpy's is aligned otherwise, so kernels may add in another order there, and a
    model has other bits than with the same numbers in its own parameters.
    """
    return torch.tensor(array, device=device)


def rounded(array: Array, tensor: torch.Tensor) -> Array:
    """The array as this tensor holds it once it is loaded."""
    if tensor.dtype not in _NARROW:
        return array
    held: Array = torch.from_numpy(np.array(array)).to(tensor.dtype).float().numpy()
    return held


def model_arrays(model: nn.Module) -> Model:
    """Copies of `model_tensors` as numpy arrays, buffers marked."""
    tensors = model_tensors(model)
    parameters = {id(parameter) for parameter in model.parameters()}
    return Model(
        {name: as_array(tensor) for name, tensor in tensors.items()},
        [name for name, tensor in tensors.items() if id(tensor) not in parameters],
    )


def model_spec(model: nn.Module) -> Spec:
    """The spec of `model_arrays`. Raises: `bad-spec` (a dtype that cannot travel)."""
    try:
        return Spec.of(model_arrays(model))
    except TypeError as error:
        raise CodecError("bad-spec", f"the model holds a dtype that cannot travel: {error}") from None


def frozen_digests(model: nn.Module) -> dict[str, bytes]:
    """Of what stays where it is: frozen parameters and the buffers that `model_tensors` leaves out and a `state_dict`
    holds, but for counters of batches.
    """
    travelling = {id(tensor) for tensor in model_tensors(model).values()} | _factors(model)
    found: dict[str, bytes] = {}
    seen = set[int]()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor) or id(tensor) in travelling | seen or name.endswith(_COUNTER):
            continue
        seen.add(id(tensor))
        values = tensor.detach().cpu().contiguous()
        digest = hashlib.sha256(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        if values.numel():
            digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
        found[name] = digest.digest()
    return found


def load_arrays(model: nn.Module, arrays: Arrays) -> None:
    """Sets these tensors of the model, buffers by either name. Raises: `does-not-fit`."""
    tensors = model_tensors(model)
    with torch.no_grad():
        for name, array in arrays.items():
            tensor = tensors.get(own_name(name))
            if tensor is None or tuple(tensor.shape) != array.shape:
                raise CodecError("does-not-fit", f"the model has no tensor {name!r} of shape {array.shape}")
            tensor.copy_(torch.from_numpy(np.array(array)))
        _find_singular_vectors(model)
        for module in _factored(model):
            module.scatter()


def _find_singular_vectors(model: nn.Module) -> None:
    """Of layers under spectral normalisation: the mean of several clients' vectors belongs to no matrix."""
    for module in model.modules():
        if isinstance(module, ParametrizationList):
            for part in module:
                if isinstance(part, SpectralNorm) and hasattr(part, "_u"):
                    _iterate(part._reshape_weight_to_matrix(module.original), part._u, part._v)
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNormHook):
                matrix = hook.reshape_weight_to_matrix(getattr(module, f"{hook.name}_orig"))
                _iterate(matrix, getattr(module, f"{hook.name}_u"), getattr(module, f"{hook.name}_v"))


def _iterate(matrix: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """The power method, from where the vectors are, in place."""
    if not left.any():
        left.fill_(1.0)
    for _ in range(_POWER_STEPS):
        right.copy_(nn.functional.normalize(matrix.T @ left, dim=0, eps=1e-12))
        left.copy_(nn.functional.normalize(matrix @ right, dim=0, eps=1e-12))


def laid_out(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers with the channels of a kernel, (out, in, h, w), last in memory; other tensors as they are.

    Convolutions and pooling are faster so on a CPU, with the same results to rounding.
    """
    # Kernels of three dimensions have another such format, and nothing to gain from it.
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
