"""Adapters: small trained parts beside the frozen layers of a model that others have trained.

What is trained travels, the base does not: a layer of n x m numbers costs r (n + m) of them, or r x r. The models are
torch alone; those of the package `peft` are taken as they are.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from thinwire.machine.files import write_atomic
from thinwire.methods.model_file import model_bytes
from thinwire.methods.tensors import Factored

Layer = nn.Linear | nn.Conv2d
_SHOWN: Final = 8
_NUMERICAL_RANK: Final = 1e-5
_SMALLEST: Final = 1e-30
_PEFT_PREFIX: Final = "base_model.model."


class Adapter(nn.Module, ABC):
    """A frozen layer, and what is added to its weight. `weight` and `bias` are those of the layer that it stands for,
    for code that reads them instead of calling it, as attention does.
    """

    def __init__(self, base: Layer) -> None:
        super().__init__()
        self.base = base

    @abstractmethod
    def delta(self) -> torch.Tensor:
        """What is added, in the shape of the layer's weight."""

    @property
    def weight(self) -> torch.Tensor:
        return self.base.weight + self.delta()

    @property
    def bias(self) -> torch.Tensor | None:
        return self.base.bias

    def merged(self) -> Layer:
        """The layer with the sum for its weight."""
        with torch.no_grad():
            self.base.weight += self.delta()
        return self.base


class LoRA(Adapter):
    """E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv 2106.09685, equation 3:
    W + (alpha / r) B A. `lora_A`: (r, in) or (r, in, height, width), drawn as a layer's own weight would be; `lora_B`:
    (out, r) or (out, r, 1, 1), zeros, so that the model begins as its base.
    """

    def __init__(self, base: Layer, rank: int, alpha: float) -> None:
        super().__init__(base)
        self.rank, self.alpha = rank, alpha
        weight = base.weight
        self.lora_A = nn.Parameter(weight.new_empty(rank, *weight.shape[1:]))
        self.lora_B = nn.Parameter(weight.new_zeros(weight.shape[0], rank, *[1] * (weight.dim() - 2)))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def delta(self) -> torch.Tensor:
        product = self.lora_B.flatten(1) @ self.lora_A.flatten(1)
        return (self.alpha / self.rank) * product.view_as(self.base.weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        base = self.base
        if isinstance(base, nn.Linear):
            added = functional.linear(functional.linear(inputs, self.lora_A), self.lora_B)
        else:
            thin = functional.conv2d(inputs, self.lora_A, None, base.stride, base.padding, base.dilation)
            added = functional.conv2d(thin, self.lora_B)
        found: torch.Tensor = base(inputs) + (self.alpha / self.rank) * added
        return found


class ExactLoRA(LoRA, Factored):
    """LoRA whose product travels: the mean of B_k A_k is not the product of the means of B_k and A_k. For `feddlr` with
    `object = "weights"` and `max-rank = r`: an answer is the factors, r (n + m) numbers as with LoRA; the coordinator
    adds the products exactly and broadcasts their mean truncated to rank r.

    The factors of a product are balanced; directions that it has not are drawn as at first, beside zeros.
    """

    factors = ("lora_A", "lora_B")

    def __init__(self, base: Layer, rank: int, alpha: float) -> None:
        super().__init__(base, rank, alpha)
        self.product = nn.Parameter(torch.zeros_like(base.weight))
        self._drawn = self.lora_A.detach().clone()

    def gather(self) -> None:
        self.product.copy_(self.delta())

    def scatter(self) -> None:
        matrix = self.product.detach().flatten(1).double() * (self.rank / self.alpha)
        left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
        there = singular[: self.rank] > _NUMERICAL_RANK * singular[:1].clamp_min(_SMALLEST)
        roots = singular[: self.rank][there].sqrt()
        self.lora_A.copy_(self._drawn)
        self.lora_B.zero_()
        self.lora_A.flatten(1)[: len(roots)] = (roots[:, None] * right[: len(roots)]).to(self.lora_A.dtype)
        self.lora_B.flatten(1)[:, : len(roots)] = (left[:, : len(roots)] * roots).to(self.lora_B.dtype)


class CoreAdapter(Adapter):
    """R. Singhal et al., "Fed-SB: A Silver Bullet for Extreme Communication Efficiency and Performance in (Private)
    Federated LoRA Fine-Tuning", arXiv 2502.15436 (2025): W + U R V, of which only the core R, (r, r), is trained and
    travels. U and V are the same at every client, so the mean of the cores is the mean of the products, exactly.

    Deviation: U and V are the first r singular vectors of W, as in LoRA-XS (K. Balazy et al., arXiv 2405.17604), not
    those of the first step's gradient: a client knows them from its base, without an exchange. Each has its largest
    entry positive. Machines with other linear algebra may differ in last bits; where they do, the comparison of what
    does not travel says so when they register.
    """

    def __init__(self, base: Layer, rank: int) -> None:
        super().__init__(base)
        left, _, right = torch.linalg.svd(base.weight.detach().flatten(1).double(), full_matrices=False)
        largest = left.abs().argmax(0)
        signs = left[largest, torch.arange(left.shape[1])].sign()
        self.left = nn.Parameter((left * signs)[:, :rank].to(base.weight.dtype), requires_grad=False)
        self.right = nn.Parameter((right * signs[:, None])[:rank].to(base.weight.dtype), requires_grad=False)
        self.core = nn.Parameter(base.weight.new_zeros(self.left.shape[1], self.right.shape[0]))

    def delta(self) -> torch.Tensor:
        return (self.left @ self.core @ self.right).view_as(self.base.weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        base = self.base
        if isinstance(base, nn.Linear):
            thin = functional.linear(functional.linear(inputs, self.right), self.core)
            found: torch.Tensor = base(inputs) + functional.linear(thin, self.left)
        else:
            found = functional.conv2d(inputs, self.weight, base.bias, base.stride, base.padding, base.dilation)
        return found


def add_lora(
    model: nn.Module,
    names: Sequence[str],
    *,
    rank: int = 8,
    alpha: float = 16.0,
    also: Sequence[str] = (),
    exact: bool = False,
) -> nn.Module:
    """The same model, frozen, with `LoRA`, or `ExactLoRA`, on those of its layers whose names are like one of these.

    `names`: of linear layers and convolutions, as `*.query`; `also`: of parameters that are trained as they are, as
    `head.*`. Raises: `ValueError` where nothing is named like that, or a layer cannot be adapted.
    """
    return _adapted(model, names, also, lambda layer: (ExactLoRA if exact else LoRA)(layer, rank, alpha))


def add_cores(model: nn.Module, names: Sequence[str], *, rank: int = 32, also: Sequence[str] = ()) -> nn.Module:
    """As `add_lora`, with `CoreAdapter`."""
    return _adapted(model, names, also, lambda layer: CoreAdapter(layer, rank))


def _adapted(
    model: nn.Module, names: Sequence[str], also: Sequence[str], make: Callable[[Layer], Adapter]
) -> nn.Module:
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    chosen = [name for name in layers if any(fnmatchcase(name, pattern) for pattern in names)]
    if not chosen:
        there = ", ".join(list(layers)[:_SHOWN]) + (", ..." if len(layers) > _SHOWN else "")
        raise ValueError(f"no linear layer or convolution is named like {' or '.join(names)}; there are: {there}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in also))
    for name in chosen:
        layer = layers[name]
        if isinstance(layer, nn.Conv2d) and (layer.groups != 1 or layer.padding_mode != "zeros"):
            raise ValueError(f"{name} cannot be adapted: a convolution has one group here, and zeros around it")
        layer.requires_grad_(False)
        model.set_submodule(name, make(layer))
    return model


def merge_adapters(model: nn.Module) -> nn.Module:
    """The model with every adapter added to its layer, and the layers in their places again; of `peft`'s models their
    base. Raises: `ValueError` where there is no adapter.
    """
    theirs: Any = model
    if hasattr(model, "merge_and_unload"):
        merged: nn.Module = theirs.merge_and_unload()
        return merged
    adapters = {name: module for name, module in model.named_modules() if isinstance(module, Adapter)}
    if not adapters:
        raise ValueError("the model has no adapters to merge")
    for name, adapter in adapters.items():
        model.set_submodule(name, adapter.merged())
    return model


def write_peft(model: nn.Module, folder: Path) -> None:
    """Writes the adapters and all else that is trained as `peft` reads it: `PeftModel.from_pretrained(base, folder)`.

    Raises: `ValueError` where the model has other adapters than LoRA, none, or of several ranks; `OSError`.
    """
    theirs: Any = model
    if hasattr(model, "peft_config") and hasattr(model, "save_pretrained"):
        theirs.save_pretrained(str(folder))
        return
    adapters = {name: module for name, module in model.named_modules() if isinstance(module, Adapter)}
    lora = {name: adapter for name, adapter in adapters.items() if isinstance(adapter, LoRA)}
    if not lora or len(lora) < len(adapters):
        raise ValueError("peft reads LoRA; this model has " + ("other adapters" if adapters else "no adapters"))
    sizes = {(adapter.rank, adapter.alpha) for adapter in lora.values()}
    if len(sizes) > 1:
        raise ValueError("the adapters are of several ranks or alphas; merge them instead")
    for name in lora:
        # It reads this layer's weight instead of calling it, and theirs says that of the base.
        if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention):
            raise ValueError(f"peft does not see {name}, which is a part of nn.MultiheadAttention; merge it instead")
    ((rank, alpha),) = sizes
    tensors = {f"{name}.lora_{side}.weight": getattr(lora[name], f"lora_{side}") for name in lora for side in "AB"}
    inside = {id(parameter) for adapter in lora.values() for parameter in adapter.parameters()}
    own = {name: one for name, one in model.named_parameters() if one.requires_grad and id(one) not in inside}
    config = {
        "peft_type": "LORA", "task_type": None, "inference_mode": True, "base_model_name_or_path": None,
        "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False,
        "target_modules": sorted(lora), "modules_to_save": sorted({name.rpartition(".")[0] for name in own}) or None,
    }  # fmt: skip
    arrays = {f"{_PEFT_PREFIX}{name}": one.detach().cpu().numpy() for name, one in {**tensors, **own}.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "adapter_model.safetensors", model_bytes(arrays), fsync=True, mode=0o644)
    write_atomic(folder / "adapter_config.json", f"{json.dumps(config, indent=2)}\n".encode(), fsync=True, mode=0o644)
