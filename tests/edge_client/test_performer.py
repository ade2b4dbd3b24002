"""Laws of performing: what is not finite is refused, or told, with its cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from thinwire.codecs import Array, Arrays, CodecError
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import BrokenModelError, Learner
from thinwire.edge_client.limits import Limits
from thinwire.edge_client.memory.runs import RunMemory, StagedOutcome
from thinwire.edge_client.performer import Performer
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.methods.definition import define
from thinwire.methods.frozen_parts import mark_as_number, marks_of
from thinwire.methods.payloads import publish
from thinwire.methods.samples import TensorSamples
from thinwire.methods.values import State, Task, TaskPassedError, TaskRefusedError
from thinwire.protocol.encoding import encode_message
from thinwire.protocol.identity import broadcast_seed, digest_of
from thinwire.protocol.messages import PartMessage, TaskMessage
from thinwire.protocol.settings import RunSettings


@dataclass
class Plans:
    """Stands where a client's folder stands; plans are all that a performer asks of it."""

    kept: dict[bytes, bytes] = field(default_factory=dict)

    def plan(self, digest: bytes) -> bytes | None:
        return self.kept.get(digest)

    def keep_plan(self, digest: bytes, plan: bytes) -> None:
        self.kept[digest] = plan


class Performed:
    """One client that performs the tasks of a run which it is handed, without a network between."""

    def __init__(
        self,
        learner: Learner,
        folder: Path,
        method: str,
        settings: Mapping[str, Any] | None = None,
        threads: int = 1,
        uplink: str | None = None,
    ) -> None:
        self.learner = learner
        self.said: list[str] = []
        self._plans = Plans()
        self._memory = RunMemory(folder / "run001")
        self.run = RunSettings(method=method, settings=dict(settings or {}), cohort=2, uplink=uplink)
        self.definition = define("run001", self.run)
        self._count = 0
        self._performer = Performer(
            lambda digest, size, **_: b"", self._plans, learner, say=self.said.append, limits=Limits(),  # type: ignore[arg-type]
            now_s=lambda: 0.0, own_first=False, threads=threads,
        )  # fmt: skip

    def remember(self, outcome: StagedOutcome) -> None:
        """The answer was accepted."""
        self._memory.stage(outcome)
        self._memory.decide(outcome.task, "accepted")

    def first(self) -> Task:
        """The run's first task, of the learner's own first model."""
        task = self.definition.server.task(self.definition.first_state(self.learner.first_arrays()))
        assert task is not None
        return task

    def __call__(self, task: Task) -> StagedOutcome:
        chains = self.definition.chains(task.kind)
        seed = broadcast_seed(self.run.seed, task.round, task.step)
        published = {name: publish(a, chains, spec=task.spec(name), seed=seed) for name, a in task.parts.items()}
        plan = encode_message(self.definition.plan(task, {name: part.spec for name, part in published.items()}))
        self._plans.keep_plan(digest_of(plan), plan)
        self._count += 1
        message = TaskMessage(
            task=f"task{self._count:04d}", run="run001", plan=digest_of(plan), exchange=self._count, round=task.round,
            step=task.step, options=dict(task.options) or None,
            parts=[PartMessage(inline=part.full) for part in published.values()],
        )  # fmt: skip
        return self._performer.perform(message, self._memory)


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def learner(bad: Callable[[Arrays], None] = lambda _: None, model: Callable[[], nn.Module] = small) -> Learner:
    """Of a small model and forty rows; `bad` may spoil them."""
    random = np.random.default_rng(0)
    arrays = {
        name: random.standard_normal((rows, 6)).astype("f4") for name, rows in (("train", 40), ("evaluation", 12))
    }
    classes = {name: array[:, :3].argmax(1) for name, array in arrays.items()}
    bad(arrays)
    parts = {name: (torch.from_numpy(array), torch.from_numpy(classes[name])) for name, array in arrays.items()}
    task = LearningProblem(
        model,
        lambda _: Data(parts["train"], parts["evaluation"]),
        nn.CrossEntropyLoss(),
    )
    return Learner(task, ClientInfo("client-00"))


def spoilt(which: str) -> Callable[[Arrays], None]:
    def bad(arrays: Arrays) -> None:
        arrays[which][7, 4] = np.nan

    return bad


@pytest.mark.parametrize("chains", [None, "", "byte_shuffle, zstd"])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("fedavg", {}), ("feddlr", {}), ("feddkd", {}), ("progfed", {}), ("sparse_masks", {}),
        ("fd_alu", {"classes": 3, "min-count": 1}), ("seed_scalars", {"steps": 3}),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_finite_is_refused_and_the_data_are_named(
    method: str, settings: dict[str, Any], chains: str | None, tmp_path: Path
) -> None:
    """Also where the chain would carry it: nobody is to find out at the other end."""
    performed = Performed(learner(spoilt("train")), tmp_path, method, settings)
    if chains is not None and method != "sparse_masks":
        performed.definition = define("run001", performed.run.model_copy(update={"uplink": chains}))
    with pytest.raises(CodecError, match=r"out-of-range.*1 of 40 examples hold NaN"):
        performed(performed.first())


def test_training_that_diverges_is_told_apart_from_data_that_are_not_numbers(tmp_path: Path) -> None:
    performed = Performed(learner(), tmp_path, "fedavg", {"lr": 100.0, "epochs": 50, "momentum": 0.0})
    performed.learner.loss = nn.MSELoss()
    performed.learner.evaluation = None
    inputs = performed.learner.train.inputs
    performed.learner.train = TensorSamples(inputs, inputs[:, :3])
    with pytest.raises(CodecError, match="lower the run's lr"):
        performed(performed.first())


def test_a_chain_that_cannot_hold_what_was_learnt_is_told_apart_from_training_that_diverges(tmp_path: Path) -> None:
    performed = Performed(learner(), tmp_path, "fedavg", {"lr": 1e-3, "batch-size": 40}, uplink="cast(f16), zstd")
    performed.learner.loss = lambda outputs, _: 1e9 * outputs.mean()
    performed.learner.evaluation = None
    with pytest.raises(CodecError, match=r"finite, and the chain up, cast.* cannot hold it") as refused:
        performed(performed.first())
    assert "lr" not in refused.value.detail


def test_a_metric_that_is_not_finite_is_told_and_counted(tmp_path: Path) -> None:
    performed = Performed(learner(spoilt("evaluation")), tmp_path, "fedavg")
    metrics = performed(performed.first()).metrics
    assert metrics["not_finite"] == 1
    assert "loss" not in metrics
    assert np.isfinite(list(metrics.values())).all()
    assert any("1 of 12 examples hold NaN" in line for line in performed.said)
    other = Performed(learner(), tmp_path / "other", "fedavg")
    assert "not_finite" not in other(other.first()).metrics


def test_a_model_whose_units_have_died_is_told_of(tmp_path: Path) -> None:
    performed = Performed(learner(), tmp_path, "fedavg", {"batch-size": 40})
    task = performed.first()
    assert "unmoved" not in performed(task).metrics
    dead = {name: np.full_like(array, -1e3) if name == "0.bias" else array for name, array in task.arrays.items()}
    for round_ in (2, 3):
        metrics = performed(replace(task, round=round_, parts={"model": dead})).metrics
        assert metrics["unmoved"] == 1
    warnings = [line for line in performed.said if line.startswith("warning")]
    assert any("moves no weight" in line for line in warnings)
    assert len(set(warnings)) == len(warnings), "said when it begins, and not every time"


def test_a_client_whose_frozen_parts_are_others_declines_and_names_them(tmp_path: Path) -> None:
    frozen = learner()
    assert not frozen.frozen
    own = {"backbone.weight": bytes(32)}
    frozen.frozen = own
    performed = Performed(frozen, tmp_path, "fedavg")
    task = performed.first()
    performed.definition = performed.definition.for_model(frozen.first_arrays())
    assert performed(task).metrics["unchecked"] == mark_as_number(own)
    for wanted in (own, {"backbone.weight": b"1" * 32}):
        run = performed.run.model_copy(update={"frozen": marks_of(wanted)})
        performed.definition = define("run001", run).for_model(frozen.first_arrays())
        if wanted == own:
            assert "unchecked" not in performed(task).metrics
        else:
            with pytest.raises(TaskRefusedError, match=r"model-mismatch.*backbone\.weight.*frozen=any"):
                performed(task)


def test_a_model_that_the_method_cannot_work_with_refuses_the_plan(tmp_path: Path) -> None:
    """Of all tasks, and not this one alone: what is left is to decline, and to say what would help."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.last(torch.relu(self.second(torch.relu(self.first(inputs)))))

    performed = Performed(learner(model=Net), tmp_path, "progfed")
    with pytest.raises(TaskRefusedError, match=r"run-invalid.*blocks\(\) and head\(\).*a Net, which has neither"):
        performed(performed.first())


def test_who_trains_with_more_threads_than_one_says_so(tmp_path: Path) -> None:
    performed = Performed(learner(), tmp_path, "fedavg", threads=2)
    assert performed(performed.first()).metrics["threads"] == 2


@pytest.mark.parametrize("fewer", [True, False])
def test_feddkd_asks_no_teacher_about_other_examples_than_it_was_trained_on(fewer: bool, tmp_path: Path) -> None:
    performed = Performed(learner(), tmp_path, "feddkd", {"distil-samples": "all"})
    task = performed.first()
    outcome = performed(task)
    performed.remember(outcome)
    state = performed.definition.first_state(performed.learner.first_arrays())
    distil = performed.definition.server.task(State(1, 1, state.arrays))
    assert distil is not None
    assert performed(distil).payload
    train = performed.learner.train
    assert isinstance(train, TensorSamples)
    inputs, labels = train.inputs, train.labels
    assert isinstance(inputs, torch.Tensor)
    assert labels is not None
    cut = slice(0, 30) if fewer else slice(None)
    performed.learner.train = TensorSamples(inputs[cut] + (0 if fewer else 1), labels[cut])
    with pytest.raises(TaskPassedError, match="not those that it trained on"):
        performed(distil)
    # The next round is trained with what there is now.
    assert performed(replace(task, round=2)).examples == len(performed.learner.train)


def later(performed: Performed, spoil: Callable[[Array], Array]) -> Task:
    """A task of the third round, of a model that has been spoilt."""
    task = performed.first()
    parts = {part: {name: spoil(array) for name, array in arrays.items()} for part, arrays in task.parts.items()}
    return replace(task, round=3, parts=parts)


@pytest.mark.parametrize("method", ["fedavg", "feddlr", "feddkd"])
@pytest.mark.parametrize("held_out", [True, False])
@pytest.mark.parametrize("factor", [np.nan, np.inf, 1e4])
def test_a_broken_model_is_declined_and_the_next_one_is_taken(
    method: str, held_out: bool, factor: float, tmp_path: Path
) -> None:
    """Also by a client that sees no other model before, as after a restart."""
    performed = Performed(learner(), tmp_path, method, {"weighting": "uniform"})
    if not held_out:
        performed.learner.evaluation = None
    with pytest.raises(BrokenModelError, match="the model received is broken"):
        performed(later(performed, lambda array: (array * factor).astype("f4")))
    assert performed(later(performed, lambda array: array)).payload
    performed(performed.first())
    with pytest.raises(BrokenModelError):
        performed(later(performed, lambda array: (array * factor).astype("f4")))


def test_a_worse_model_is_not_a_broken_one(tmp_path: Path) -> None:
    performed = Performed(learner(), tmp_path, "fedavg")
    performed(performed.first())
    assert performed(later(performed, lambda array: 3 * array)).payload


def test_a_loss_that_no_model_has_is_not_the_model_s_fault(tmp_path: Path) -> None:
    performed = Performed(learner(spoilt("evaluation")), tmp_path, "fedavg")
    assert performed(later(performed, lambda array: array)).payload
