"""A user's own problem: two functions and what is optional, in one Python file that only this client ever runs."""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import nn

from thinwire.edge_client.data import ClientInfo, Data
from thinwire.methods.inputs import Inputs, Outputs, usual_outputs
from thinwire.methods.work import Work

HOOKS: Final = ("model", "data", "loss", "encode", "outputs", "score", "summary", "optimizer", "fit")
"""What this client calls, or takes, of a task file."""
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Encoder = Callable[[Inputs], torch.Tensor]
Score = Callable[[torch.Tensor, torch.Tensor], Mapping[str, torch.Tensor]]
Summary = Callable[[torch.Tensor, torch.Tensor], Mapping[str, float]]
OptimizerOf = Callable[[list[nn.Parameter], float], Any]
Fit = Callable[[nn.Module, Work], float]


@dataclass(frozen=True, slots=True)
class LearningProblem:
    """`model()`: a fresh model; `data(client)`: what this client may use; `loss`: mean over the examples of a batch.

    `encode(inputs)`: n examples -> (n, d), what makes them similar; see `thinwire.methods.learner.Learner`.
    `outputs(model, inputs)`: what the loss is of; by default the model's answer, or its `logits`.
    `score(outputs, targets)`: one value per example of each score, by name, instead of accuracy;
    `summary(outputs, targets)`: figures of all held-out examples together. `optimizer(parameters, lr)`: instead of the
    run's; `fit(model, work)`: a loop of one's own, which returns the mean loss of its last epoch. `file`: where its
    lines stand. `notes`: what its author should know.
    """

    model: Callable[[], nn.Module]
    data: Callable[[ClientInfo], Data]
    loss: Loss
    encode: Encoder | None = None
    outputs: Outputs = usual_outputs
    score: Score | None = None
    summary: Summary | None = None
    optimizer: OptimizerOf | None = None
    fit: Fit | None = None
    file: Path | None = None
    notes: tuple[str, ...] = ()


class ProblemFileError(Exception):
    """A problem's file that cannot be used. The message is what its author must see: a traceback of their own lines."""


def load_problem_file(path: Path) -> LearningProblem:
    """The problem of this file. Raises: `ProblemFileError`."""
    if not path.is_file():
        raise ProblemFileError(f"there is no task file {path}")
    spec = importlib.util.spec_from_file_location("thinwire_task_file", path)
    if spec is None or spec.loader is None:
        raise ProblemFileError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Where worker processes of a data loader, and dataclasses, look for it.
    sys.modules[spec.name] = module
    # Modules beside the file are its own; what is installed goes before them.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    loader = spec.loader
    guarded(path, lambda: loader.exec_module(module))()
    return LearningProblem(
        guarded(path, _function(module, path, "model")),
        guarded(path, _function(module, path, "data")),
        getattr(module, "loss", None) or nn.CrossEntropyLoss(),
        guarded(path, _function(module, path, "encode")) if hasattr(module, "encode") else None,
        file=path,
        notes=_unused(path),
        **{
            # What goes wrong in them while a run is on is told by whoever called them.
            hook: _function(module, path, hook)
            for hook in ("outputs", "score", "summary", "optimizer")
            if hasattr(module, hook)
        },
        fit=_fitting(_function(module, path, "fit"), path) if hasattr(module, "fit") else None,
    )


def _fitting(fit: Callable[..., Any], path: Path) -> Fit:
    """The loop, held to what it returns."""

    def call(model: nn.Module, work: Work) -> float:
        found = fit(model, work)
        try:
            return float(found.detach() if isinstance(found, torch.Tensor) else found)
        except (RuntimeError, TypeError, ValueError):
            raise ProblemFileError(
                f"{path}: fit() returned {found!r:.60}; it has to return the mean loss of its last epoch, a number"
            ) from None

    return call


def _unused(path: Path) -> tuple[str, ...]:
    """A note on each function, or other lower-case name, that is no hook and that the file itself does not use."""
    tree = ast.parse(path.read_bytes())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    named = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:
        if isinstance(node, ast.Assign):
            named += [target.id for target in node.targets if isinstance(target, ast.Name) and target.id.islower()]
    return tuple(
        f"{path}: nothing uses {name}; what a task file may define is {', '.join(HOOKS)}"
        for name in named
        if not name.startswith("_") and name not in {*HOOKS, *used}
    )


def _function(module: ModuleType, path: Path, name: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        raise ProblemFileError(f"{path} has no function {name}()")
    found: Callable[..., Any] = function
    return found


def guarded(path: Path, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; what it raises becomes a `ProblemFileError` with the traceback from the file's first line on."""

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            raise ProblemFileError(own_traceback(error, path)) from error

    return call


def own_traceback(error: BaseException, path: Path | None) -> str:
    """The traceback without the frames of the program around the file; the error alone where they do not reach it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = None if path is None else path.resolve()
    first = next((index for index, frame in enumerate(frames) if Path(frame.filename).resolve() == own), len(frames))
    lines = [] if first == len(frames) else ["in the task file (most recent call last):\n"]
    lines += traceback.format_list(frames[first:])
    return "".join([*lines, *traceback.format_exception_only(error)]).rstrip()


def is_of_file(error: BaseException, path: Path | None) -> bool:
    """Whether the error was raised by the file's lines, or by what they called."""
    own = None if path is None else path.resolve()
    return any(Path(frame.filename).resolve() == own for frame in traceback.extract_tb(error.__traceback__))
