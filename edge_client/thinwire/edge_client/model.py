"""`thinwire-client model`: what is done to models where torch is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from thinwire.codecs import Arrays, CodecError
from thinwire.codecs.decomposition import EXACT
from thinwire.machine.files import write_atomic
from thinwire.methods.arrays import Model
from thinwire.methods.feddlr.compact import compact_model, smallest_energy
from thinwire.methods.frozen_parts import marks_of
from thinwire.methods.model_file import model_bytes, read_arrays
from thinwire.methods.seed_scalars.stored import expand_history, is_history
from thinwire.methods.sparse_masks.masked_model import expand, is_packed, needs_start
from thinwire.methods.tensors import frozen_digests, load_arrays, model_arrays
from thinwire.protocol.reasons import ProblemError

from .data import ClientInfo
from .held_model import fresh_model
from .learner import Learner
from .problems.problem_file import LearningProblem


def trained_model(path: Path, start: Callable[[], Model] | None = None) -> Model:
    """The arrays of a model as its problem has them, also where the file holds its seed and mask (`sparse_masks`), or
    scalars (`seed_scalars`), which are steps from a `start`. Raises: `ValueError`, `OSError`, and what `start` raises.
    """
    try:
        arrays = read_arrays(path)
        if is_history(arrays):
            if start is None:
                raise ValueError(f"{path} holds the steps from a first model: give that one with --start")
            return expand_history(arrays, start())
        if not is_packed(arrays):
            return arrays
        if needs_start(arrays) and start is None:
            raise ValueError(f"{path} holds masks on a trained model: give the run's first model with --start")
        return expand(arrays, start() if start is not None and needs_start(arrays) else None)
    except (ProblemError, CodecError) as error:
        raise ValueError(f"{path}: {error.detail}") from None


def read_start(path: Path) -> Model:
    """The arrays of a first model's file. Raises: `ValueError`, `OSError`."""
    try:
        return read_arrays(path)
    except ProblemError as error:
        raise ValueError(f"{path}: {error.detail}") from None


def first_model(problem: LearningProblem, seed: int) -> Model:
    """The arrays of a fresh model: a function of the seed, for one version of torch. Raises: `ProblemFileError`."""
    torch.manual_seed(seed)
    fresh = fresh_model(problem)
    arrays = model_arrays(fresh)
    return Model(arrays, arrays.buffers, marks_of(frozen_digests(fresh)))


def task_model(problem: LearningProblem, arrays: Arrays, seed: int) -> nn.Module:
    """The task's model with these arrays in it; parts that never travel are made from `seed`.

    Raises: `ValueError`, `ProblemFileError`.
    """
    torch.manual_seed(seed)
    model = fresh_model(problem)
    try:
        load_arrays(model, arrays)
    except CodecError as error:
        raise ValueError(f"the model file does not fit the task: {error.detail}") from None
    return model


def export_state(model: nn.Module, path: Path) -> None:
    """Writes the model's `state_dict` in plain torch names, frozen parameters and all buffers included.

    `path`: `.safetensors`, or `.pt` for `torch.load(..., weights_only=True)`. Raises: `ValueError`.
    """
    state = model.state_dict()
    if path.suffix == ".pt":
        with path.open("wb") as file:
            torch.save(state, file)
    elif path.suffix == ".safetensors":
        write_atomic(
            path, model_bytes({name: tensor.numpy() for name, tensor in state.items()}), fsync=True, mode=0o644
        )
    else:
        raise ValueError(f"{path}: a file ends in .safetensors or .pt")


def compact_arrays(
    problem: LearningProblem,
    arrays: Arrays,
    seed: int,
    *,
    energy: float | None,
    tolerance: float | None,
    unfolding: Literal["channel", "spatial"],
) -> tuple[Model, str]:
    """The arrays of the compact model (`thinwire.methods.feddlr.compact`), and what became of it in words.

    `energy`: of the truncation; None: the numerical rank, for a model that is truncated already. `tolerance`: instead,
    the smallest energy that costs at most so much loss on the problem's held-out examples. Raises: `ValueError`,
    `ProblemFileError`.
    """
    learner = Learner(problem, ClientInfo(seed=seed))
    try:
        learner.load(arrays)
    except CodecError as error:
        raise ValueError(f"the model file does not fit the task: {error.detail}") from None
    model = learner.model.eval()
    if tolerance is not None:
        if learner.evaluation is None:
            raise ValueError("the task has no held-out examples to measure a tolerance on")
        energy = smallest_energy(
            model, lambda one: learner.evaluate(one)["loss"], tolerance=tolerance, unfolding=unfolding
        )
    compact = compact_model(model, energy=EXACT if energy is None else energy, unfolding=unfolding)
    before, after = (sum(array.size for array in model_arrays(one).values()) for one in (model, compact))
    lines = [f"energy {'of the numerical rank' if energy is None else energy}", f"parameters {before} -> {after}"]
    for name in ("loss", "accuracy"):
        old, new = (learner.evaluate(one).get(name) for one in (model, compact))
        if old is not None and new is not None:
            lines.append(f"{name} {old:.4f} -> {new:.4f}")
    return model_arrays(compact), "\n".join(lines)


def write_out(data: bytes, out: Path | None) -> None:
    """To the file in one step, or to standard output. Raises: `OSError`."""
    if out is not None:
        write_atomic(out, data, fsync=True, mode=0o644)
        return
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def in_plain(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The same as `described`, for JSON."""
    found = {name: {"dtype": str(array.dtype), "shape": list(array.shape)} for name, array in arrays.items()}
    return {"arrays": found, "parameters": sum(array.size for array in arrays.values())}


def described(arrays: Mapping[str, Any]) -> str:
    """One line per array: name, dtype, shape; and the number of parameters."""
    lines = [f"{name}  {array.dtype}  {'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in arrays.items()]
    return "\n".join([*lines, f"{sum(array.size for array in arrays.values())} parameters"])
