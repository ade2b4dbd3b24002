"""Eight small learning tasks of real data: images, maps, text, tables; classes and a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.feature_extraction.text import HashingVectorizer
from torch import nn

from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.built_in import ProblemOptions, find_problem
from thinwire.edge_client.problems.problem_file import LearningProblem

DATA: Final = Path(__file__).parents[2] / "shared" / "data"
"""Where sets lie that are not bundled with scikit-learn (`../shared/data/README.md`)."""
_INTENTS: Final = 10
_FEATURES: Final = 1024


@dataclass(frozen=True, slots=True)
class SmallTask:
    """`file`: of the data, None where scikit-learn has them. `measure`: accuracy, dice, or r2, the share of a number's
    variance that the model explains.
    """

    name: str
    problem: Callable[[], LearningProblem]
    clients: int = 8
    split: str = "dirichlet:0.3"
    measure: str = "accuracy"
    file: str | None = None

    @property
    def is_there(self) -> bool:
        return self.file is None or (DATA / self.file).is_file()

    def learners(self, seed: int = 0) -> dict[str, Learner]:
        """One for each client, by name."""
        problem, rule = self.problem(), self.split
        infos = [ClientInfo(f"client-{i:02d}", i, self.clients, seed, rule) for i in range(self.clients)]
        return {info.name: Learner(problem, info) for info in infos}

    def score(self, means: Callable[[str], float]) -> float:
        """Of an evaluation, by the mean of each metric; larger is better, 1 is all."""
        return 1 - means("loss") if self.measure == "r2" else means(self.measure)


def built_in(
    name: str, file: str | None, train: int, test: int, architecture: str | None = None
) -> Callable[[], LearningProblem]:
    """Makes a built-in task of so many examples. `file`: in `DATA`."""

    def problem() -> LearningProblem:
        path = None if file is None else DATA / file
        return find_problem(name, ProblemOptions(path, None, architecture, train, test))

    return problem


def _rows(inputs: Any, targets: Any, model: Callable[[], nn.Module], loss: nn.Module) -> LearningProblem:
    """Of a table, whose rows every client takes its turn of, in an order of its own; a fifth of them is held out."""
    order = np.random.default_rng(0).permutation(len(inputs))
    held, kept = order[: len(order) // 5], order[len(order) // 5 :]
    tensors = torch.from_numpy(np.asarray(inputs, np.float32)), torch.from_numpy(np.asarray(targets))

    def data(client: ClientInfo) -> Data:
        mine, test = kept[client.index :: client.clients], held[client.index :: client.clients]
        return Data((tensors[0][mine], tensors[1][mine]), (tensors[0][test], tensors[1][test]))

    return LearningProblem(model, data, loss)


def _mlp(columns: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(columns, 64), nn.ReLU(), nn.Linear(64, outputs))


def _breast_cancer() -> LearningProblem:
    inputs, targets = load_breast_cancer(return_X_y=True)
    scaled = (inputs - inputs.mean(0)) / inputs.std(0)
    return _rows(scaled, targets.astype(np.int64), lambda: _mlp(30, 2), nn.CrossEntropyLoss())


def _diabetes() -> LearningProblem:
    inputs, targets = load_diabetes(return_X_y=True)
    scaled = ((targets - targets.mean()) / targets.std()).astype(np.float32)[:, None]
    return _rows(inputs / inputs.std(0), scaled, lambda: _mlp(10, 1), nn.MSELoss())


def _banking() -> LearningProblem:
    with np.load(DATA / "banking77.npz") as file:
        text, intents = file["text_train"], file["y_train"].astype(np.int64)
    chosen = intents < _INTENTS
    vectors = HashingVectorizer(n_features=_FEATURES, ngram_range=(1, 2)).transform(text[chosen]).toarray()
    return _rows(vectors, intents[chosen], lambda: nn.Linear(_FEATURES, _INTENTS), nn.CrossEntropyLoss())


def _nuclei() -> LearningProblem:
    """At half their size."""
    whole = find_problem("unet_npz", ProblemOptions(data=DATA / "dsb2018_nuclei_128.npz", train=48, test=16))

    def halved(pair: Any) -> Any:
        return tuple(part[..., ::2, ::2].contiguous() for part in pair)

    def data(client: ClientInfo) -> Data:
        found = whole.data(client)
        return Data(halved(found.train), halved(found.evaluation))

    return LearningProblem(whole.model, data, whole.loss)


TASKS: Final[Mapping[str, SmallTask]] = {
    task.name: task
    for task in (
        SmallTask("digits", built_in("digits", None, 800, 360)),
        SmallTask("breast_cancer", _breast_cancer),
        SmallTask("diabetes", _diabetes, measure="r2"),
        SmallTask(
            "fashion_mnist",
            built_in("fashion_mnist", "fashion_mnist.npz", 1600, 500, "cifar_convnet"),
            file="fashion_mnist.npz",
        ),
        SmallTask("cifar10_small", built_in("cifar10", "cifar10_small.npz", 1600, 400), 4, file="cifar10_small.npz"),
        SmallTask("shakespeare", built_in("text_npz", "shakespeare.npz", 1000, 300), 4, "iid", file="shakespeare.npz"),
        SmallTask("nuclei", _nuclei, 4, "iid", "dice", file="dsb2018_nuclei_128.npz"),
        SmallTask("banking77", _banking, file="banking77.npz"),
    )
}
