"""The model of a stage, out of the pieces of the whole one: what has not grown yet is neither built nor run."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from thinwire.codecs import Array, Arrays, CodecError
from thinwire.methods.progfed.cuts import TEMPORARY
from thinwire.methods.tensors import model_tensors

Layer = TypeVar("Layer", bound=nn.Module)


@runtime_checkable
class Pieces(Protocol):
    """A model that says where it may be cut: blocks in the order of growth, and what follows the last one."""

    def blocks(self) -> list[nn.Module]: ...

    def head(self) -> nn.Module: ...


@runtime_checkable
class OutsideIn(Protocol):
    """A model that grows from the outside in: the outputs of its first `stage` blocks under its own head."""

    def forward_stage(self, inputs: torch.Tensor, stage: int) -> torch.Tensor: ...


@runtime_checkable
class EncoderFirst(Protocol):
    """A model whose decoder grows: the features behind its encoder and the `decoders` innermost decoders."""

    def forward_decoder(self, inputs: torch.Tensor, decoders: int) -> torch.Tensor: ...


def stage_model(
    model: nn.Module, received: Arrays, stage: int, growth: str
) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """The model whose arrays these are, sharing the tensors of `model`, and those of its temporary head by name.

    `received`: with the arrays of a temporary head, which are loaded; `stage`: from 1. Raises: `bad-spec` (a model that
    cannot be cut), `does-not-fit` (arrays that are not whole pieces of it).
    """
    own = set(model_tensors(model))
    temporary = {part: received[name] for part, name in TEMPORARY.items() if name in received}
    if own <= received.keys():
        return model, {}
    if growth == "symmetric" and isinstance(model, OutsideIn):
        return _Outside(model, stage), {}
    if not temporary:
        raise CodecError("does-not-fit", "the task holds neither all arrays of the model nor a temporary head")
    head: nn.Module
    if growth == "asymmetric" and isinstance(model, EncoderFirst):
        convolution = _convolution(temporary)
        grown: nn.Module = _Decoding(model, convolution, stage - 1)
        head = convolution
    else:
        linear = _linear(temporary)
        grown = nn.Sequential(*_grown(model, received), _Pool(linear.in_features), linear)
        head = linear
    head.to(next(model.parameters()).device)
    return grown, {TEMPORARY[part]: tensor for part, tensor in head.named_parameters()}


class _Pool(nn.Module):
    """The mean over all positions: behind the channels, (n, width, ...), or before them, (n, positions, width), as
    embeddings and layers for sequences have it. What has another width is flattened, as `nn.Flatten` does.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if features.ndim <= 2:
            return features
        if features.shape[1] == self._width:
            return features.flatten(2).mean(2)
        if features.ndim == 3 and features.shape[2] == self._width:
            return features.mean(1)
        return features.flatten(1)


class _Outside(nn.Module):
    def __init__(self, model: nn.Module, stage: int) -> None:
        super().__init__()
        self.model = model
        self._stage = stage

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.model.forward_stage(inputs, self._stage)  # type: ignore[operator]
        return outputs


class _Decoding(nn.Module):
    """Scores of every position from the innermost features, stretched to the size of the inputs."""

    def __init__(self, model: nn.Module, head: nn.Module, decoders: int) -> None:
        super().__init__()
        self.model = model
        self.temporary = head
        self._decoders = decoders

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.model.forward_decoder(inputs, self._decoders)  # type: ignore[operator]
        return nn.functional.interpolate(self.temporary(features), inputs.shape[2:], mode="bilinear")


def _linear(arrays: dict[str, Array]) -> nn.Linear:
    outputs, width = arrays["weight"].shape
    return _loaded(nn.Linear(width, outputs), arrays)


def _convolution(arrays: dict[str, Array]) -> nn.Conv2d:
    outputs, width, *_ = arrays["weight"].shape
    return _loaded(nn.Conv2d(width, outputs, 1), arrays)


def _loaded(layer: Layer, arrays: dict[str, Array]) -> Layer:
    layer.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return layer


def _grown(model: nn.Module, received: Arrays) -> list[nn.Module]:
    """The pieces up to the first one that has not grown; those without arrays go with the piece before them, but for
    an `nn.Flatten`: the head's pool does its work, and knows the positions.
    """
    if isinstance(model, Pieces):
        pieces = [*model.blocks(), model.head()]
    elif isinstance(model, nn.Sequential):
        pieces = list(model)
    else:
        raise CodecError(
            "bad-spec",
            f"progfed cuts an nn.Sequential, or a model with blocks() and head(); model() returned a "
            f"{type(model).__name__}, which has neither",
        )
    names = {id(tensor): name for name, tensor in model_tensors(model).items()}
    found: list[nn.Module] = []
    for piece in pieces:
        held = {names[id(t)] in received for t in (*piece.parameters(), *piece.buffers()) if id(t) in names}
        if held == {True, False}:
            raise CodecError("does-not-fit", "the run cuts this model within one of its pieces")
        if False in held:
            break
        found.append(piece)
    last = max((index for index, piece in enumerate(found) if any(True for _ in piece.parameters())), default=0)
    return [piece for index, piece in enumerate(found) if index <= last or not isinstance(piece, nn.Flatten)]
