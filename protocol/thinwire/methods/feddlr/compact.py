"""The compact network: each truncated matrix as two thin layers, which compute what the truncated one computes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from thinwire.codecs import Arrays
from thinwire.codecs.decomposition import (
    EXACT,
    Factors,
    Unfolding,
    factorise,
    largest_rank,
    low_rank_names,
    truncated,
    unfold,
)
from thinwire.methods.tensors import load_arrays, model_spec


def compact_model(
    model: nn.Module,
    *,
    energy: float = EXACT,
    unfolding: Unfolding = "channel",
    dense: Iterable[str] = (),
    ends: bool = True,
    max_rank: int | None = None,
) -> nn.Module:
    """A copy of the model in which Linear and Conv2d layers are pairs of layers where that has fewer parameters.

    The pair stands in an `nn.Sequential` under the layer's name. `channel`: a convolution with r outputs, then 1 x 1;
    `spatial`: k x 1, then 1 x l. The copy computes the function of `truncate_model` with the same arguments, to float
    rounding. The default energy keeps the numerical rank: for a model that is truncated already.
    """
    compact = copy.deepcopy(model)
    for path, layer in _chosen(compact, dense, ends):
        factors = factorise(unfold(layer.weight.detach().cpu().numpy(), unfolding), energy, max_rank)
        rank = factors[0].shape[1]
        if rank <= largest_rank((factors[0].shape[0], factors[1].shape[1])):
            pair = _pair(layer, rank, unfolding)
            _fill(pair, layer, factors, unfolding)
            _put(compact, path, layer, pair)
    return compact


def compact_like(model: nn.Module, arrays: Arrays) -> nn.Module:
    """A copy of the model with the pairs and the values of a compact model's arrays (`model_arrays`).

    Raises: `does-not-fit`.
    """
    compact = copy.deepcopy(model)
    layers = [(path, one) for path, one in compact.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    for path, layer in layers:
        first, second = arrays.get(f"{path}.0.weight"), arrays.get(f"{path}.1.weight")
        if first is not None and second is not None:
            whole = isinstance(layer, nn.Linear) or first.shape[2:] == layer.kernel_size
            _put(compact, path, layer, _pair(layer, len(first), "channel" if whole else "spatial"))
    load_arrays(compact, arrays)
    return compact


def truncate_model(
    model: nn.Module,
    *,
    energy: float,
    unfolding: Unfolding = "channel",
    dense: Iterable[str] = (),
    ends: bool = True,
    max_rank: int | None = None,
) -> nn.Module:
    """A copy of the model with the same layers, whose matrices are truncated."""
    found = copy.deepcopy(model)
    with torch.no_grad():
        for _, layer in _chosen(found, dense, ends):
            array = truncated(layer.weight.cpu().numpy(), energy, unfolding, max_rank)
            layer.weight.copy_(torch.from_numpy(array.copy()))
    return found


def smallest_energy(
    model: nn.Module,
    loss: Callable[[nn.Module], float],
    *,
    tolerance: float,
    energies: Iterable[float] = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98),
    unfolding: Unfolding = "channel",
    dense: Iterable[str] = (),
    ends: bool = True,
) -> float:
    """The smallest energy whose truncated model loses at most `tolerance`: loss(truncated) <= loss(model) + tolerance;
    1.0 where none does. `loss`: of a model on held-out examples.
    """
    limit, dense = loss(model) + tolerance, tuple(dense)
    for energy in sorted(energies):
        if loss(truncate_model(model, energy=energy, unfolding=unfolding, dense=dense, ends=ends)) <= limit:
            return energy
    return 1.0


def _chosen(model: nn.Module, dense: Iterable[str], ends: bool) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """The layers to decompose, with their paths. A weight that two layers share is left alone, so are grouped ones."""
    names = set(low_rank_names(model_spec(model), tuple(dense), ends=ends))
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    holders = [id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False)]
    return [
        (path, layer)
        for path, layer in layers
        if f"{path}.weight" in names
        and holders.count(id(layer.weight)) == 1
        and (isinstance(layer, nn.Linear) or (layer.groups == 1 and layer.padding_mode == "zeros"))
    ]


def _pair(layer: nn.Linear | nn.Conv2d, rank: int, unfolding: Unfolding) -> nn.Sequential:
    """Two layers in place of this one, not filled yet."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Sequential(
            nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=bias)
        )
    (high, wide), (down, across), (apart, aside) = layer.kernel_size, layer.stride, layer.dilation
    inputs, outputs = layer.in_channels, layer.out_channels
    padding: Any = layer.padding
    if unfolding == "channel":
        return nn.Sequential(
            nn.Conv2d(inputs, rank, (high, wide), (down, across), padding, (apart, aside), bias=False),
            nn.Conv2d(rank, outputs, 1, bias=bias),
        )
    before, after = (padding, padding) if isinstance(padding, str) else ((padding[0], 0), (0, padding[1]))
    return nn.Sequential(
        nn.Conv2d(inputs, rank, (high, 1), (down, 1), before, (apart, 1), bias=False),
        nn.Conv2d(rank, outputs, (1, wide), (1, across), after, (1, aside), bias=bias),
    )


def _fill(pair: nn.Sequential, layer: nn.Linear | nn.Conv2d, factors: Factors, unfolding: Unfolding) -> None:
    left, right = (torch.from_numpy(factor) for factor in factors)
    rank = left.shape[1]
    first: Any
    second: Any
    first, second = pair
    if isinstance(layer, nn.Conv2d):
        inputs, outputs = layer.in_channels, layer.out_channels
        high, wide = layer.kernel_size
        if unfolding == "channel":
            left, right = left.reshape(outputs, rank, 1, 1), right.reshape(rank, inputs, high, wide)
        else:
            # The rows of the matrix are the inputs' columns: the first layer holds the left factor.
            columns = left.reshape(inputs, high, rank).permute(2, 0, 1)[..., None]
            left, right = right.reshape(rank, outputs, wide).permute(1, 0, 2)[:, :, None], columns
    with torch.no_grad():
        first.weight.copy_(right)
        second.weight.copy_(left)
        if layer.bias is not None:
            second.bias.copy_(layer.bias)


def _put(model: nn.Module, path: str, layer: nn.Module, pair: nn.Sequential) -> None:
    parent, _, name = path.rpartition(".")
    weight: Any = layer.weight
    setattr(model.get_submodule(parent), name, pair.to(weight).train(layer.training))
