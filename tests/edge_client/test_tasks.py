"""Whatever form examples come in, the same rows train to the same bits; a task's own hooks take the place of ours."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from tests.methods.fleet import client_of, first_model, run_settings, simulated, train
from thinwire.edge_client.data import ClientInfo, Data, Stream
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import LearningProblem, ProblemFileError, load_problem_file
from thinwire.edge_client.rehearsal import rehearse
from thinwire.methods.arrays import same_bits
from thinwire.methods.client_half import check_needs
from thinwire.methods.samples import cuts
from thinwire.methods.values import TaskRefusedError
from thinwire.methods.work import Work


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


ROWS = torch.randn(61, 6, generator=torch.Generator().manual_seed(0))
CLASSES = ROWS[:, :3].argmax(1)
HELD_OUT = (ROWS[:13], CLASSES[:13])
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "fedavg": ("fedavg", {"epochs": 2}),
    "progfed": ("progfed", {}),
    "feddkd": ("feddkd", {"distil-target": "mixture", "distil-samples": 20}),
    "sparse_masks": ("sparse_masks", {"epochs": 1, "batch-size": 8}),
    "fd_alu class": ("fd_alu", {"classes": 3}),
    "fd_alu proxy": ("fd_alu", {"classes": 3, "knowledge": "proxy", "proxy-samples": 7}),
    "fd_alu sample": ("fd_alu", {"classes": 3, "knowledge": "sample", "min-count": 1}),
}


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 3))


class Rows(Dataset[Any]):
    """The rows one by one; `noise`: with what each of three generators draws on top."""

    def __init__(self, noise: float = 0.0, targets: bool = True) -> None:
        self.noise, self.targets = noise, targets

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: int) -> Any:
        drawn = torch.rand(6) + random.random() + float(np.random.rand())
        row = ROWS[index] + self.noise * drawn
        return (row, int(CLASSES[index])) if self.targets else row


class Two(nn.Module):
    """Takes a row in two parts, as `left` and `right`; the rest of it is that of `model`."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = model()

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.cat([left, right], 1))


class Answer:
    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


class OfLibrary(Two):
    """Answers as models of `transformers` do."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> Any:
        return Answer(super().forward(left, right))


def fleet(data: Callable[[], Data], build: Callable[[], nn.Module] = model, **hooks: Any) -> dict[str, Learner]:
    problem = LearningProblem(build, lambda _: data(), nn.CrossEntropyLoss(), **hooks)
    client = ClientInfo("client-00")
    return {client.name: Learner(problem, client, allow=["sample-knowledge"])}


def of_tensors() -> Data:
    return Data((ROWS, CLASSES), HELD_OUT, proxy=(ROWS[:40],))


def of_rows(noise: float = 0.0, workers: int = 0) -> Data:
    return Data(Rows(noise), HELD_OUT, proxy=(ROWS[:40],), workers=workers)


def end(method: str, clients: Mapping[str, Learner]) -> Mapping[str, Any]:
    name, settings = METHODS[method]
    result = simulated(run_settings(name, settings, cohort=1), clients, first_model(clients))
    (metrics,) = result.exchanges[-1].metrics.values()
    return {**result.state.arrays, "metrics": np.array([metrics[key] for key in sorted(metrics)])}


@pytest.mark.parametrize("method", METHODS)
def test_a_dataset_of_the_same_rows_gives_the_same_bits(method: str) -> None:
    """Whatever its `__getitem__` draws from."""
    expected = end(method, fleet(of_tensors))
    assert same_bits(end(method, fleet(of_rows)), expected)


@pytest.mark.parametrize("method", METHODS)
def test_inputs_by_place_and_by_name_give_the_bits_of_one_tensor(method: str) -> None:
    if method in ("progfed", "fd_alu sample"):
        pytest.skip("the one cuts a model of one input, the other projects all tensors of an example together")
    parts = ROWS[:, :2], ROWS[:, 2:]
    named = dict(zip(("left", "right"), parts, strict=True))
    expected = end(method, fleet(lambda: Data((ROWS, CLASSES), HELD_OUT, proxy=(ROWS,)), Joined))
    by_place = end(
        method, fleet(lambda: Data((parts, CLASSES), (tuple(p[:13] for p in parts), CLASSES[:13]), proxy=(parts,)), Two)
    )
    by_name = end(
        method,
        fleet(
            lambda: Data((named, CLASSES), ({key: p[:13] for key, p in named.items()}, CLASSES[:13]), proxy=(named,)),
            OfLibrary,
        ),
    )
    for found in (by_place, by_name):
        assert same_bits(*({key: one[key] for key in one if key != "proxy_set"} for one in (found, expected)))


class Joined(Two):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(rows[:, :2], rows[:, 2:])


def test_four_processes_give_the_bits_of_none() -> None:
    """With augmentation that draws from torch, numpy and Python, and dropout in the model."""
    ends = {workers: end("fedavg", fleet(lambda n=workers: of_rows(0.5, n))) for workers in (0, 4)}
    assert same_bits(ends[0], ends[4])
    assert not same_bits(ends[0], end("fedavg", fleet(of_rows)))


def test_an_example_is_augmented_anew_in_every_epoch_and_alike_wherever_it_stands() -> None:
    samples = fleet(lambda: of_rows(1.0))["client-00"].train
    everything = torch.arange(len(samples))

    def by_row(seed: int, size: int) -> torch.Tensor:
        found = torch.zeros_like(ROWS)
        for batch in samples.batches(size, seed):
            found[batch.rows] = batch.inputs
        return found

    assert torch.equal(by_row(3, 8), by_row(3, 20))
    assert not torch.equal(by_row(3, 8), by_row(4, 8))
    assert not torch.equal(by_row(3, 8)[0] - ROWS[0], by_row(3, 8)[1] - ROWS[1])
    assert torch.equal(samples.take(everything).inputs, samples.take(everything).inputs)


def test_fetching_leaves_the_random_numbers_to_come() -> None:
    samples = fleet(lambda: of_rows(1.0))["client-00"].train
    drawn = []
    for fetch in (False, True):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        if fetch:
            list(samples.batches(8, 3))
        drawn.append((float(torch.rand(1)), random.random(), float(np.random.rand())))
    assert drawn[0] == drawn[1]


def test_nothing_of_a_dataset_is_read_before_it_is_needed() -> None:
    read: list[int] = []

    class Told(Rows):
        def __getitem__(self, index: int) -> Any:
            read.append(index)
            return super().__getitem__(index)

    learner = fleet(lambda: Data(Told()))["client-00"]
    rehearse(learner, None)
    assert set(read) <= set(range(8))
    read.clear()
    train(learner, 0.05, steps=2, **{"batch-size": 5})
    assert len(read) == 10


def test_a_collate_of_ones_own_and_labels_by_name() -> None:
    def collate(rows: list[Any]) -> dict[str, torch.Tensor]:
        joined = torch.stack([row for row, _ in rows])
        return {
            "left": joined[:, :2], "right": joined[:, 2:], "labels": torch.tensor([target for _, target in rows])
        }  # fmt: skip

    expected = fleet(lambda: Data((ROWS, CLASSES)), Joined)["client-00"]
    found = fleet(lambda: Data(Rows(), collate=collate), OfLibrary)["client-00"]
    for learner in (expected, found):
        learner.prepare(3)
        train(learner, 0.05)
    assert same_bits(found.arrays(), expected.arrays())


def streamed(seed: int, round_: int) -> Iterator[Any]:
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(ROWS)))
    for chosen in cuts(len(ROWS), 8):
        yield ROWS[order[chosen]], CLASSES[order[chosen]]


def test_a_stream_of_the_same_batches_gives_the_same_bits() -> None:
    """And hears which round it is; what looks examples up says that a stream has no numbers."""
    rounds: list[int] = []

    def opened(seed: int, round_: int) -> Iterator[Any]:
        rounds.append(round_)
        return streamed(seed, round_)

    clients = fleet(lambda: Data(Stream(opened, len(ROWS)), HELD_OUT))
    rehearse(clients["client-00"], None)
    rounds.clear()
    for method in ("fedavg", "sparse_masks"):
        assert same_bits(end(method, clients), end(method, fleet(lambda: Data((ROWS, CLASSES), HELD_OUT))))
    assert rounds[:5] == [1, 1, 2, 2, 1]
    for method, settings in {"feddkd": {}, "fd_alu": {"classes": 3}}.items():
        with pytest.raises(TaskRefusedError, match=f"{method} looks examples up by their numbers.*a Stream has none"):
            check_needs(client_of(method, settings), clients["client-00"], method)


def test_scores_and_summaries_of_ones_own_are_measured() -> None:
    def score(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        ranked = outputs.topk(2).indices
        return {"top2": (ranked == targets[:, None]).any(1), "margin": outputs.max(1).values}

    def summary(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        return {"rows": float(len(outputs)), "share": float((targets == 0).float().mean())}

    many = Data((ROWS, CLASSES), (ROWS.repeat(20, 1), CLASSES.repeat(20)))
    learner = fleet(lambda: many, score=score, summary=summary)["client-00"]
    found = learner.evaluate()
    learner.model.eval()
    with torch.no_grad():
        outputs = learner.model(ROWS)
    assert set(found) == {"loss", "top2", "margin", "rows", "share", "examples"}
    assert found["top2"] == pytest.approx(float(score(outputs, CLASSES)["top2"].float().mean()), rel=1e-6)
    assert found["margin"] == pytest.approx(float(outputs.max(1).values.mean()), rel=1e-6)
    assert found["rows"] == 20 * len(ROWS)


@pytest.mark.parametrize(
    ("hooks", "what"),
    [
        ({"score": lambda o, t: {"f1": o.mean()}}, r"score\(\): f1 is \(\); it is a tensor with one value per example"),
        ({"score": lambda o, t: {"loss": t}}, r"'loss' is no name for a score"),
        ({"score": lambda o, t: 3}, r"score\(\) returned a int"),
        ({"summary": lambda o, t: {"F1": 1.0}}, r"'F1' is no name for a score"),
        ({"summary": lambda o, t: {"f1": o}}, r"summary\(\): each of its values is one number"),
    ],
)
def test_a_score_that_is_none_is_told_before_anything_is_sent(hooks: dict[str, Any], what: str) -> None:
    with pytest.raises(ProblemFileError, match=what):
        rehearse(fleet(of_tensors, **hooks)["client-00"], None)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (Data(({"a": ROWS, "b": ROWS[:3]}, CLASSES)), "different numbers of examples: a 61, b 3"),
        (Data((ROWS, ROWS, CLASSES)), "a batch of 3 parts; several inputs stand together"),  # type: ignore[arg-type]
        (Data((ROWS.numpy(), CLASSES)), "holds a ndarray where a tensor belongs"),  # type: ignore[arg-type]
        (Data(iter([ROWS])), "a Dataset with __len__ and __getitem__, or a Stream"),  # type: ignore[arg-type]
    ],
)
def test_examples_of_no_known_form_are_told(data: Data, what: str) -> None:
    with pytest.raises(ProblemFileError, match=what):
        fleet(lambda: data)


def ours(model: nn.Module, work: Work) -> float:
    """The loop that we run, written by a user."""
    optimizer = work.optimizer()
    loss = 0.0
    for _ in range(work.epochs):
        summed = 0.0
        for inputs, targets in work.dataloader():
            optimizer.zero_grad()
            with work.autocast():
                value = work.loss(model(inputs), targets)
            value = value + work.penalty(model)
            value.backward()
            work.clip(model)
            optimizer.step()
            summed += float(value.detach()) * len(targets)
        loss = summed / len(CLASSES)
    work.report(gradient_steps=work.epochs * len(work.dataloader()), round_of=work.round, due=work.due() or -1)
    return loss


@pytest.mark.parametrize("method", ["fedavg", "feddlr", "progfed"])
def test_a_loop_of_ones_own_gives_the_bits_of_ours(method: str) -> None:
    settings = {"epochs": 2, "proximal-mu": 0.1, "clip-norm": 0.5, "weighting": "uniform"}
    run = run_settings(method, settings, cohort=1, rounds=3)
    found, expected = (
        simulated(run, clients, first_model(clients)) for clients in (fleet(of_tensors, fit=ours), fleet(of_tensors))
    )
    assert same_bits(found.state.arrays, expected.state.arrays)
    assert [one.metrics["client-00"].get("round_of") for one in found.exchanges] == [1, 2, 3, None]
    assert found.exchanges[0].metrics["client-00"]["gradient_steps"] == 2 * 8


def test_a_loop_of_ones_own_does_not_run_under_a_method_that_has_its_own() -> None:
    learner = fleet(of_tensors, fit=ours)["client-00"]
    for method, settings in {"feddkd": {}, "sparse_masks": {}, "fd_alu": {"classes": 3}}.items():
        with pytest.raises(TaskRefusedError, match=f"{method} trains by a loop of its own, and this task brings fit"):
            check_needs(client_of(method, settings), learner, method)


def test_batches_by_name_join_their_targets_for_a_trainer() -> None:
    named = {"left": ROWS[:, :2], "right": ROWS[:, 2:]}
    seen: list[Any] = []

    def fit(model: nn.Module, work: Work) -> float:
        loader = work.dataloader(targets="labels")
        seen.extend([*loader, *loader])
        return 0.0

    learner = fleet(lambda: Data((named, CLASSES)), Two, fit=fit)["client-00"]
    learner.prepare(3)
    train(learner, 0.05)
    assert [set(batch) for batch in seen] == [{"left", "right", "labels"}] * 16
    assert torch.equal(torch.cat([batch["labels"] for batch in seen[:8]]).sort().values, CLASSES.sort().values)
    assert not torch.equal(seen[0]["left"], seen[8]["left"])


def test_outputs_of_ones_own_are_what_the_loss_is_of() -> None:
    doubled = fleet(of_tensors, outputs=lambda model, inputs: 2 * model(inputs))
    plain = fleet(of_tensors, Doubled)
    for method in ("fedavg", "sparse_masks", "feddkd"):
        assert same_bits(
            {name.replace("inner.", ""): array for name, array in end(method, plain).items()}, end(method, doubled)
        ), method


class Doubled(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(*model())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(inputs)


def test_models_of_16_bits_travel_as_32_and_their_small_updates_are_kept() -> None:
    """Also what a step moves by less than their grain: the mean holds what the clients cannot."""
    for dtype in (torch.bfloat16, torch.float16):
        rows = ROWS.to(dtype)
        data = Data((rows, CLASSES), (rows[:13], CLASSES[:13]))
        clients = fleet(lambda d=data: d, lambda t=dtype: model().to(t))
        learner = clients["client-00"]
        assert {item.dtype for item in learner.spec.values()} == {"f32"}
        first = first_model(clients)
        result = simulated(run_settings("fedavg", {"server-lr": 0.001}, cohort=1, chains="plain"), clients, first)
        assert result.model is not None
        moved = {name: array - first[name] for name, array in result.model.items()}
        assert any(0 < np.abs(array).max() < 1e-3 for array in moved.values())
        replaced = {name: array + np.float32(1e-4) for name, array in first.items()}
        learner.load(replaced)
        nothing = client_of("fedavg").answer(learner, replaced)  # type: ignore[attr-defined]
        assert not any(array.any() for array in nothing.values())


def test_tied_weights_travel_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6)
            self.second.weight = self.first.weight

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.second(self.first(inputs))
            return found

    clients = fleet(lambda: Data((ROWS, CLASSES), HELD_OUT), Tied)
    assert list(clients["client-00"].spec) == ["first.weight", "second.bias"]
    end("fedavg", clients)
    tied: Any = clients["client-00"].model
    assert tied.second.weight is tied.first.weight


def test_a_loop_that_returns_no_number_is_told_what_to_return(tmp_path: Path) -> None:
    """As one that is pasted from a script does."""
    lines = [
        "from torch import nn", "def model(): return nn.Linear(1, 1)", "def data(client): raise NotImplementedError",
        "def fit(model, work): return {GIVEN}",
    ]  # fmt: skip
    file = tmp_path / "task.py"
    for given, good in (("None", False), ("[1, 2]", False), ("0.25", True), ("nn.Parameter(model.weight[0, 0])", True)):
        file.write_text("\n".join(lines).replace("{GIVEN}", given))
        fit = load_problem_file(file).fit
        assert fit is not None
        if good:
            assert isinstance(fit(nn.Linear(1, 1), cast("Work", None)), float)
            continue
        with pytest.raises(ProblemFileError, match=r"fit\(\) returned .* it has to return the mean loss"):
            fit(nn.Linear(1, 1), cast("Work", None))
