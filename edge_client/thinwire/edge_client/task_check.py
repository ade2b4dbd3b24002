"""`thinwire-client task check`: what a task will do in a run, and what will go wrong, before the first byte is sent."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from thinwire.codecs import Chain, CodecError
from thinwire.machine.quantities import in_bytes
from thinwire.methods.arrays import is_buffer
from thinwire.methods.client_half import check_needs, client_half
from thinwire.methods.definition import Definition, define
from thinwire.methods.payloads import encode_answer
from thinwire.methods.registry import method_ids
from thinwire.methods.tensors import products
from thinwire.methods.values import Outcome, Task, TaskRefusedError
from thinwire.protocol.identity import client_seed
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from .learner import Learner
from .problems.problem_file import LearningProblem, ProblemFileError
from .rehearsal import rehearse

USUAL: Final[Mapping[str, str]] = {
    "32 bits": "byte_shuffle, zstd",
    "16 bits": "cast(f16), byte_shuffle(2), zstd",
    "8 bits": "quantise(8), entropy",
    "4 bits": "quantise(4), entropy",
    "2 bits": "quantise(2), entropy",
}
"""Chains for updates, as the guide names them."""
_SHOWN: Final = 12
_LOOKED_AT: Final = 64
_RISEN: Final = 1.05
_SUMMED: Final = 1.5


@dataclass(frozen=True, slots=True)
class Report:
    """`lines`: a word and what there is to say of it. `warnings`: what will go wrong, and what to do; none: nothing
    that was looked for.
    """

    lines: list[tuple[str, str]]
    warnings: list[str]


def check_task(problem: LearningProblem, learner: Learner, run: RunSettings) -> Report:
    """One round of this run, for this client alone, without a coordinator.

    Raises: `ProblemFileError` where not even one step can be trained; `TaskRefusedError` or `ProblemError`
    (`run-invalid`) where the run cannot be, with what helps.
    """
    rehearse(learner, problem.file)
    _require_labels(learner)
    lines, warnings = [*_model_lines(learner), *_example_lines(learner)], list(_warnings(learner))
    definition = define("check", run, spec=None)
    before = learner.first_arrays()
    learner.load(before)
    start = learner.evaluate(samples=learner.train.few(_LOOKED_AT))
    begun = time.monotonic()
    task, outcome = _one_round(definition, learner)
    seconds = time.monotonic() - begun
    lines.append((f"a round of {run.method}", f"{seconds:.1f} s here; {_memory()} in all"))
    lines.append(("bytes of an answer", _answer_bytes(task, outcome, learner)))
    end = learner.evaluate(samples=learner.train.few(_LOOKED_AT))
    if not end["loss"] <= start["loss"] * _RISEN:
        warnings.append(
            f"one round raises the loss of the first examples from {start['loss']:.4g} to {end['loss']:.4g}: "
            f"lower lr, which is {definition.settings.told().get('lr')}"
        )
    fits, not_ = [], []
    for name in method_ids():
        words = _refusal(name, run, learner)
        fits += [name] if words is None else []
        not_ += [] if words is None else [(f"not {name}", words)]
    return Report([*lines, ("methods", ", ".join(fits)), *not_], warnings)


def _model_lines(learner: Learner) -> Iterator[tuple[str, str]]:
    spec = learner.spec
    moving = sum(item.max_bytes // item.numpy_dtype.itemsize for item in spec.values())
    staying = [one for one in learner.model.parameters() if not one.requires_grad]
    yield "travels", f"{moving:,} numbers in {len(spec)} arrays, {in_bytes(spec.max_bytes)} as they are"
    for name, item in list(spec.items())[:_SHOWN]:
        mark = " (buffer)" if is_buffer(name) else ""
        yield "", f"{name}{mark}  {item.dtype}  {'x'.join(map(str, item.shape)) or 'scalar'}"
    if len(spec) > _SHOWN:
        yield "", f"and {len(spec) - _SHOWN} more: thinwire-client model spec"
    if staying:
        yield "stays", f"{sum(one.numel() for one in staying):,} numbers in {len(staying)} frozen parameters"


def _example_lines(learner: Learner) -> Iterator[tuple[str, str]]:
    parts = {"train": learner.train, "evaluation": learner.evaluation, "personal": learner.personal}
    found = [f"{len(samples):,} of {name}" for name, samples in parts.items() if samples is not None]
    yield "examples", ", ".join(found)
    if learner.evaluation is None:
        yield "", "no evaluation: the run will show the clients' own loss, and no accuracy of the common model"


def _warnings(learner: Learner) -> Iterator[str]:
    model, few = learner.model, learner.train.few(8)
    inputs, targets = few.batch.pair
    model.zero_grad()
    model.train()
    outputs = learner.outputs(model, inputs)
    learner.loss(outputs, targets).backward()  # type: ignore[no-untyped-call]
    for_others = products(model)
    silent = [
        name
        for name, one in model.named_parameters()
        if one.requires_grad and one.grad is None and id(one) not in for_others
    ]
    model.zero_grad()
    if silent:
        names = ", ".join(silent[:3]) + (f" and {len(silent) - 3} more" if len(silent) > 3 else "")
        yield f"{names} never gets a gradient, and travels for nothing: requires_grad_(False)"
    model.eval()
    with torch.no_grad():
        outputs = learner.outputs(model, inputs)
        once = float(learner.loss(outputs, targets))
        twice = float(learner.loss(torch.cat([outputs, outputs]), torch.cat([targets, targets])))
    if once > 0 and twice > once * _SUMMED:
        yield (
            "the loss is a sum over the batch, not its mean: what a rate does depends on the batch size, and the loss "
            "shown on how many examples there are; give reduction='mean'"
        )
    if any(isinstance(module, _BatchNorm) and module.training for module in model.train().modules()):
        yield (
            "BatchNorm's statistics travel exactly, whatever the chain, and are averaged over unlike clients; "
            "GroupNorm or LayerNorm has none"
        )


def _require_labels(learner: Learner) -> None:
    """Raises: `ProblemFileError` where a label is none of the model's classes."""
    loss, inputs = learner.loss, learner.train.few(1).batch.inputs
    with torch.no_grad():
        outputs = learner.outputs(learner.model.eval(), inputs)
    if not isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or outputs.dim() < 2 or not learner.train.numbered:
        return
    labels, classes = learner.train.targets(), outputs.shape[1]
    if labels.is_floating_point():
        return
    wrong = labels[(labels != loss.ignore_index) & ((labels < 0) | (labels >= classes))]
    if len(wrong):
        raise ProblemFileError(
            f"data().train: {len(wrong)} labels are out of range, {int(wrong[0])} for one; the model has {classes} "
            f"classes, 0 to {classes - 1}"
        )


def _one_round(definition: Definition, learner: Learner) -> tuple[Task, Outcome]:
    task = definition.server.task(definition.first_state(learner.arrays()))
    assert task is not None  # noqa: S101  # every run has a first round
    seen = Task(task.round, task.step, task.kind, task.parts, task.reply, options=task.options)
    chains, half = definition.chains(task.kind), client_half(definition.run.method)(definition.settings)
    check_needs(half, learner, definition.run.method)
    seed = client_seed(definition.run.seed, task.round, task.step, learner.name)
    learner.prepare(
        seed, reply=task.reply, uplink=chains.up, reference=task.arrays, round_=1, rounds=definition.run.rounds
    )
    half.check(seen, learner)
    return seen, half.perform(seen, {}, learner)


def _answer_bytes(task: Task, outcome: Outcome, learner: Learner) -> str:
    """By the run's own chain, and by those of the usual ones that can hold this answer."""
    found = []
    for name, chain in {
        "as the run says": learner.uplink,
        **{name: Chain.parse(USUAL[name]) for name in USUAL},
    }.items():
        try:
            payload = encode_answer(outcome.answer.arrays, task.reply, chain, reference=task.arrays, seed=learner.seed)
        except CodecError:
            continue
        found.append(f"{name} {in_bytes(len(payload))}")
    return "; ".join(found) or "no chain can hold it"


def _refusal(method: str, run: RunSettings, learner: Learner) -> str | None:
    """Why this method cannot train this task; None where it can."""
    settings: dict[str, Any] = dict(run.settings) if method == run.method else {}
    try:
        definition = define("check", run.model_copy(update={"method": method, "settings": settings}))
        half = client_half(method)(definition.settings)
        check_needs(half, learner, method)
        task = definition.server.task(definition.first_state(learner.first_arrays()))
        assert task is not None  # noqa: S101  # every run has a first round
        half.check(Task(task.round, task.step, task.kind, task.parts, task.reply, options=task.options), learner)
    except TaskRefusedError as error:
        return str(error).removeprefix(f"{error.reason}: ")
    except (ProblemError, CodecError) as error:
        return error.detail
    return None


def _memory() -> str:
    return in_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def read_run(path: Path | None, method: str | None) -> RunSettings:
    """The settings of a `run.toml`, or the defaults. Raises: `ValueError` (`ValidationError` is one), `OSError`."""
    import tomllib

    given: dict[str, Any] = {}
    if path is not None:
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: {error}") from None
    if method is not None:
        given = {**given, "method": method}
    return RunSettings.model_validate(given)
