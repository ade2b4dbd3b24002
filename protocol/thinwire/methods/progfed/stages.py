"""All stages of a model tried on two examples before the first round: a run must not fall when it grows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from thinwire.methods.arrays import arrived, travelling
from thinwire.methods.learner import Learner
from thinwire.methods.progfed import ProgfedSettings
from thinwire.methods.progfed.cuts import TEMPORARY, cut, head_shape
from thinwire.methods.progfed.growing import EncoderFirst, stage_model
from thinwire.methods.values import TaskRefusedError

_BY_CHANNEL = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.GroupNorm, nn.InstanceNorm1d)


def check_stages(learner: Learner, settings: ProgfedSettings, first: int) -> None:
    """Runs the model of every stage from `first` on, without training. Leaves the model as it was.

    Raises: `TaskRefusedError`, with the setting that helps; `CodecError` (a model that cannot be cut).
    """
    blocks = cut(_shapes(learner), settings)
    chosen = [stage for stage in range(first, len(blocks)) if not _is_skipped(stage, settings)]
    with _at_rest(learner.model):
        _check_widths(learner, settings, blocks, [stage for stage in chosen if stage < len(blocks) - 1])
        for stage in chosen:
            _check_outputs(learner, settings, blocks, stage)


def _shapes(learner: Learner) -> dict[str, tuple[int, ...]]:
    """Of the model's arrays, by the names under which they travel."""
    return {name: array.shape for name, array in travelling(learner.arrays()).items()}


def _is_skipped(stage: int, settings: ProgfedSettings) -> bool:
    given = settings.schedule
    return isinstance(given, tuple) and stage <= len(given) and given[stage - 1] == 0


def _built(learner: Learner, settings: ProgfedSettings, blocks: list[list[str]], stage: int) -> nn.Module:
    """The model of a stage; a temporary head is of zeros."""
    names = [name for block in blocks[:stage] for name in block]
    shapes = _shapes(learner)
    arrays = {name: np.zeros(0) for name in names}
    if stage == len(blocks) - 1 or settings.growth == "symmetric":
        arrays |= {name: np.zeros(0) for name in blocks[-1]}
    else:
        shape = head_shape(shapes, blocks, stage, settings)
        arrays |= {TEMPORARY["weight"]: np.zeros(shape, np.float32), TEMPORARY["bias"]: np.zeros(shape[0], np.float32)}
    return stage_model(learner.model, arrived(arrays), stage, settings.growth)[0]


def _check_widths(learner: Learner, settings: ProgfedSettings, blocks: list[list[str]], stages: list[int]) -> None:
    """Of the features that temporary heads are put on."""
    if settings.growth == "symmetric":
        return
    shapes = _shapes(learner)
    found: dict[int, int] = {}
    fits = True
    inputs = learner.train.few(2).batch.inputs
    for stage in range(1, len(blocks) - 1):
        width = head_shape(shapes, blocks, stage, settings)[1]
        found[stage] = width
        if stage not in stages:
            continue
        model = _built(learner, settings, blocks, stage)
        if settings.growth == "asymmetric" and isinstance(learner.model, EncoderFirst):
            features = learner.model.forward_decoder(inputs, stage - 1)  # type: ignore[arg-type]
            possible = [features.shape[1]]
        else:
            assert isinstance(model, nn.Sequential)  # noqa: S101  # the only other kind with a temporary head
            grown = model[:-2]
            features = learner.outputs(grown, inputs)
            possible = _widths(features, grown)
        if width not in possible:
            found[stage] = possible[0]
            fits = False
    if not fits:
        guessed = [head_shape(shapes, blocks, stage, settings)[1] for stage in found]
        raise TaskRefusedError(
            "run-invalid",
            f"progfed puts temporary heads of {guessed} inputs on blocks whose features have {list(found.values())} "
            f"channels: start the run with head-widths={list(found.values())}",
        )


def _widths(features: torch.Tensor, grown: nn.Module) -> list[int]:
    """What a head on these features may have as inputs, the usual one first."""
    if features.ndim <= 2:
        return [features.shape[-1]]
    flat = features[0].numel()
    if features.ndim == 3:
        layers = [layer for layer in grown.modules() if any(True for _ in layer.parameters(recurse=False))]
        before, behind = features.shape[2], features.shape[1]
        return [behind, before, flat] if layers and isinstance(layers[-1], _BY_CHANNEL) else [before, behind, flat]
    return [features.shape[1], flat]


def _check_outputs(learner: Learner, settings: ProgfedSettings, blocks: list[list[str]], stage: int) -> None:
    """That the loss takes them."""
    inputs, targets = learner.train.few(2).batch.pair
    model = _built(learner, settings, blocks, stage)
    try:
        outputs, whole = learner.outputs(model, inputs), learner.outputs(learner.model, inputs)
        if isinstance(whole, torch.Tensor) and whole.ndim > 1 and outputs.shape[1] != whole.shape[1]:
            raise TaskRefusedError(
                "run-invalid",
                f"stage {stage} of progfed has {outputs.shape[1]} outputs and the model {whole.shape[1]}: start the "
                f"run with outputs={whole.shape[1]}",
            )
        learner.loss(outputs, targets)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise TaskRefusedError(
            "run-invalid",
            f"stage {stage} of progfed does not run ({error}): say where blocks end with stages, and what temporary "
            "heads take and give with head-widths and outputs",
        ) from None


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, without gradients; random numbers to come stay the same."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, training in modes:
            module.training = training
