"""Optimisers of local training: those of `torch.optim` to the bit, by their functional forms.

Making an object of torch's own loads a compiler, which costs every client a second and 76 MB.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from thinwire.codecs import Array, Arrays

Rule = Literal["sgd", "adam", "adamw"]
_EPSILON: Final = 1e-8
_DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Optimizer(Protocol):
    """What a loop of training needs of one; those of `torch.optim` are such."""

    def zero_grad(self) -> None: ...

    def step(self) -> Any: ...


class LocalOptimizer(ABC):
    """The base of ours: parameters by name, of which those without a gradient stay as they are in a step.

    `lr` may change between steps. `state`: what is remembered from step to step, by name and parameter.
    """

    kinds: tuple[str, ...]

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], lr: float) -> None:
        self.named = dict(named)
        self.lr = lr
        self.state: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in self.kinds}

    def zero_grad(self) -> None:
        for parameter in self.named.values():
            parameter.grad = None

    def step(self) -> None:
        """One step along the gradients."""
        used = [name for name, parameter in self.named.items() if parameter.grad is not None]
        if used:
            with torch.no_grad():
                trained: list[torch.Tensor] = [self.named[name] for name in used]
                self._step(used, trained, [one.grad for one in self.named.values() if one.grad is not None])

    @abstractmethod
    def _step(self, used: Sequence[str], trained: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        """Changes the parameters of these names in place."""

    def arrays(self) -> dict[str, Array]:
        """The state as arrays, `KIND/NAME`."""
        return {
            f"{kind}/{name}": tensor.detach().float().cpu().numpy().copy()
            for kind, tensors in self.state.items()
            for name, tensor in tensors.items()
        }

    def take_up(self, arrays: Arrays) -> None:
        """Goes on from such a state; what is of other parameters, or of other shapes, begins anew."""
        for kind, tensors in self.state.items():
            for name, parameter in self.named.items():
                array = arrays.get(f"{kind}/{name}")
                if array is not None and array.shape in (tuple(parameter.shape), ()):
                    tensors[name] = self._held(kind, parameter, np.array(array))

    def _held(self, kind: str, parameter: nn.Parameter, array: Array) -> torch.Tensor:
        return torch.from_numpy(array).to(parameter)


class Descent(LocalOptimizer):
    """SGD with momentum and weight decay: `torch.optim.SGD`."""

    kinds = ("momentum",)

    def __init__(
        self, named: Iterable[tuple[str, nn.Parameter]], lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(named, lr)
        self._momentum, self._weight_decay = momentum, weight_decay

    def _step(self, used: Sequence[str], trained: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        held = self.state["momentum"]
        buffers = [held.get(name) for name in used]
        sgd(
            trained, gradients, buffers, lr=self.lr, momentum=self._momentum, weight_decay=self._weight_decay,
            dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip
        held.update({name: buffer for name, buffer in zip(used, buffers, strict=True) if buffer is not None})


class Adaptive(LocalOptimizer):
    """`torch.optim.Adam`, or `AdamW` with `decoupled` weight decay (Loshchilov, Hutter, ICLR 2019)."""

    kinds = ("first", "second", "steps")

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        *,
        decoupled: bool,
    ) -> None:
        super().__init__(named, lr)
        self._betas, self._weight_decay, self._decoupled = betas, weight_decay, decoupled

    def _step(self, used: Sequence[str], trained: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        for name, parameter in zip(used, trained, strict=True):
            if name not in self.state["steps"]:
                self.state["steps"][name] = torch.tensor(0.0)
                for kind in ("first", "second"):
                    self.state[kind][name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        first, second, steps = ([self.state[kind][name] for name in used] for kind in self.kinds)
        rule = adamw if self._decoupled else adam
        rule(
            trained, gradients, first, second, [], steps, lr=self.lr, beta1=self._betas[0], beta2=self._betas[1],
            eps=_EPSILON, weight_decay=self._weight_decay, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _held(self, kind: str, parameter: nn.Parameter, array: Array) -> torch.Tensor:
        # Where torch keeps the counts of steps, too.
        return torch.from_numpy(array) if kind == "steps" else super()._held(kind, parameter, array)


def clip(model: nn.Module, norm: float) -> None:
    """Shortens the gradient over all parameters to this length; 0: leaves it."""
    if norm:
        nn.utils.clip_grad_norm_(model.parameters(), norm)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """In which model and loss are called: `float32`, `bf16` or `fp16`."""
    dtype = _DTYPES.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def build(
    rule: Rule,
    named: Mapping[str, nn.Parameter],
    *,
    lr: float,
    momentum: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> LocalOptimizer:
    """The optimiser of these settings: `momentum` of SGD, `betas` of the others."""
    if rule == "sgd":
        return Descent(named.items(), lr, momentum, weight_decay)
    return Adaptive(named.items(), lr, betas, weight_decay, decoupled=rule == "adamw")
