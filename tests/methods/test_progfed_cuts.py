"""Laws of progressive training: where models are cut, and the sub-models that follow."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.fleet import client_of, first_model, learners_of, run_settings, simulated, table
from tests.methods.test_progfed import course, walked
from thinwire.codecs import CodecError
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.architectures import ARCHITECTURES
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.edge_client.problems.unet import UNet
from thinwire.methods.definition import define
from thinwire.methods.progfed import ProgfedSettings
from thinwire.methods.progfed.cuts import TEMPORARY, cut
from thinwire.methods.tensors import model_arrays
from thinwire.methods.values import TaskRefusedError


@pytest.mark.parametrize(
    ("architecture", "shape", "classes", "expected"),
    [
        ("cifar_convnet", (3, 32, 32), 10, [1_226, 20_042, 56_970, 122_570]),
        ("emnist_convnet", (1, 28, 28), 62, [2_366, 22_846, 1_206_590]),
        # By hand, biases and group normalisation included: the paper states none.
        ("vgg16", (3, 32, 32), 10, [262_218, 1_740_362, 7_645_770, 14_728_266]),
        ("resnet18", (3, 32, 32), 100, [156_324, 688_292, 2_800_804, 11_220_132]),
    ],
)
def test_stages_have_the_sizes_of_the_papers(
    architecture: str, shape: tuple[int, ...], classes: int, expected: list[int]
) -> None:
    model = model_arrays(ARCHITECTURES[architecture](shape, classes))
    for stage, size in enumerate(expected, start=1):
        schedule = [int(index == stage) + int(index == len(expected)) for index in range(1, len(expected) + 1)]
        server = define("run", run_settings("progfed", {"schedule": schedule}, rounds=2)).server
        task = server.task(server.start(model, 0))
        assert task is not None
        assert sum(array.size for array in task.arrays.values()) == size


def test_names_say_where_a_model_may_be_cut() -> None:
    children = ["0.weight", "0.bias", "3.weight", "6.weight", "6.bias"]
    assert cut(children, ProgfedSettings()) == [children[:2], children[2:3], children[3:]]
    assert cut(children, ProgfedSettings(stages=(6,))) == [children[:3], children[3:]]
    assert cut(children[::-1], ProgfedSettings()) == [["0.bias", "0.weight"], ["3.weight"], ["6.bias", "6.weight"]]
    named = ["stem.weight", "layers.0.weight", "layers.1.weight", "out.weight"]
    assert cut(named, ProgfedSettings()) == [[name] for name in named]
    assert cut(named, ProgfedSettings(stages=(2, 3))) == [named[:2], named[2:3], named[3:]]
    assert cut(named, ProgfedSettings(stages=(("stem", "layers"),))) == [named[:3], named[3:]]
    kept = ["buffers/mask", *children, "buffers/3.running_var"]
    assert cut(kept, ProgfedSettings()) == [children[:2], [children[2], kept[-1]], [*children[3:], "buffers/mask"]]
    for stages in [(9,), (("nothing",),), (("stem", "layers", "out"),), ((),)]:
        with pytest.raises(CodecError, match="bad-spec"):
            cut(named, ProgfedSettings(stages=stages))


def flat() -> nn.Module:
    """An `nn.Sequential` as people write them: layers without arrays between the others."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 16, 3),
    )  # fmt: skip


def flat_learner(model: Callable[[], nn.Module] = flat) -> Learner:
    def data(client: ClientInfo) -> Data:
        random = np.random.default_rng(1)
        inputs = torch.from_numpy(random.standard_normal((12, 1, 8, 8), np.float32))
        return Data(train=(inputs, torch.from_numpy(random.integers(0, 3, 12))))

    return Learner(LearningProblem(model, data, nn.CrossEntropyLoss()), ClientInfo())


def test_any_sequential_grows() -> None:
    learner = flat_learner()
    learner.prepare(0)
    model = learner.arrays()
    settings = {"stages": [3, 6], "schedule": [1, 1], "warm_up": 1}
    for _, task in course(settings, 2, model)[:-1]:
        learner.prepare(0)
        task.reply.check(client_of("progfed", settings).perform(task, {}, learner).answer.arrays)
    other = define(
        "run", run_settings("progfed", {"stages": [["0", "3.weight"]], "schedule": "equal"}, rounds=2)
    ).server
    assert other.task(other.start(model, 0)) is not None


class Described(nn.Module):
    """Neither an `nn.Sequential` nor numbered: it says itself what its blocks and its head are."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4)
        self.wide = nn.Linear(4 * 64, 12)
        self.out = nn.Linear(12, 3)

    def blocks(self) -> list[nn.Module]:
        return [
            nn.Sequential(self.convolution, self.norm, nn.ReLU()),
            nn.Sequential(nn.Flatten(), self.wide, nn.ReLU()),
        ]

    def head(self) -> nn.Module:
        return self.out

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = nn.Sequential(*self.blocks(), self.out)(inputs)
        return outputs


def test_a_model_may_say_what_its_blocks_are() -> None:
    learner = flat_learner(Described)
    learner.prepare(0)
    model = learner.arrays()
    settings = {"stages": [["convolution", "norm"], ["wide"]], "schedule": [1, 1]}
    run = course(settings, 2, model)[:-1]
    assert [set(task.arrays) for _, task in run] == [
        {"convolution.weight", "convolution.bias", "norm.weight", "norm.bias", *TEMPORARY.values()},
        set(model),
    ]
    for _, task in run:
        learner.prepare(0)
        answer = client_of("progfed", settings).perform(task, {}, learner).answer
        task.reply.check(answer.arrays)
        assert answer.metrics["stage"] == len(task.parts) - 1
        assert all(array.any() for array in answer.arrays.values())


def test_a_model_that_cannot_be_cut_is_refused() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    learner = Learner(
        LearningProblem(Whole, lambda _: Data(train=(torch.zeros(2, 3), torch.zeros(2).long())), nn.CrossEntropyLoss()),
        ClientInfo(),
    )
    learner.prepare(0)
    server = define(
        "run", run_settings("progfed", {"schedule": [1, 1], "stages": [["first.weight"], ["first"]]})
    ).server
    task = server.task(server.start(learner.arrays(), 0))
    assert task is not None
    with pytest.raises(CodecError, match="bad-spec"):
        client_of("progfed").perform(task, {}, learner)


def images(generator: torch.Generator) -> Data:
    return Data((torch.randn(12, 1, 8, 8, generator=generator), torch.arange(12) % 3))


def words(generator: torch.Generator) -> Data:
    return Data((torch.randint(0, 20, (12, 7), generator=generator), torch.arange(12) % 3))


def of_tutorials() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.1),
        nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3),
    )  # fmt: skip


def of_words() -> nn.Module:
    return nn.Sequential(nn.Embedding(20, 5), nn.Linear(5, 6), nn.Flatten(), nn.Linear(42, 3))


def upwards() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(1, 4, 3, bias=False),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.Linear(5, 3),
    )


@pytest.mark.parametrize(
    ("model", "data", "widths"),
    [(of_tutorials, images, None), (of_words, words, [5]), (upwards, images, [4])],
)
def test_all_stages_are_tried_before_the_first_round(
    model: Callable[[], nn.Module], data: Callable[[torch.Generator], Data], widths: list[int] | None
) -> None:
    """A width that the arrays do not show is asked for in round 1, and with it the run grows to its end."""
    fleet = learners_of(model, data)
    run = run_settings("progfed", {"schedule": "equal"}, rounds=3, cohort=2)
    if widths is not None:
        with pytest.raises(TaskRefusedError, match=re.escape(f"head-widths={widths}")):
            simulated(run, fleet, first_model(fleet))
        run = run_settings("progfed", {"schedule": "equal", "head-widths": widths}, rounds=3, cohort=2)
    result = simulated(run, fleet, first_model(fleet))
    assert result.exchanges[0].metrics["client-00"]["stage"] == 1


def test_a_head_behind_flattened_features_stays_as_wide_as_the_run_says() -> None:
    fleet = learners_of(of_tutorials, images)
    settings = {"schedule": [1, 1], "head-widths": [64]}
    assert simulated(run_settings("progfed", settings, rounds=2, cohort=2), fleet, first_model(fleet)).model


def test_outputs_that_the_arrays_do_not_show_are_asked_for() -> None:
    def model() -> nn.Module:
        return nn.Sequential(
            nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(4, 9), nn.Unflatten(1, (3, 3)), nn.MaxPool1d(3), nn.Flatten()
        )

    fleet = learners_of(model, table)
    with pytest.raises(TaskRefusedError, match="outputs=3"):
        simulated(run_settings("progfed", {"schedule": "equal"}, cohort=2), fleet, first_model(fleet))
    said = {"schedule": "equal", "outputs": 3}
    assert simulated(run_settings("progfed", said, cohort=2), fleet, first_model(fleet)).model


def unet_learner() -> Learner:
    def data(client: ClientInfo) -> Data:
        random = np.random.default_rng(1)
        inputs = torch.from_numpy(random.standard_normal((3, 1, 16, 16), np.float32))
        return Data(train=(inputs, (inputs > 0).float()))

    return Learner(LearningProblem(lambda: UNet(1, 1, 4, 2), data, nn.BCEWithLogitsLoss()), ClientInfo())


@pytest.mark.parametrize(
    ("growth", "begins"),
    [
        ("symmetric", ["levels.0.", "levels.1.", "levels.2."]),
        ("asymmetric", [".encoder.", "levels.1.decoder", "levels.0.decoder"]),
    ],
)
def test_a_unet_grows_both_ways(growth: str, begins: list[str]) -> None:
    learner = unet_learner()
    learner.prepare(0)
    model = learner.arrays()
    settings = {"growth": growth, "schedule": [1, 1, 1], "warm_up": 1}
    server = define("run", run_settings("progfed", settings, rounds=3)).server
    run = walked(server, server.start(model, 0))
    ran: list[str] = []
    for module in learner.model.modules():
        module.register_forward_hook(lambda module, *_: ran.extend(names_of(learner.model, module)))
    for _, task in run[:-1]:
        stage = len(task.parts) - 1
        assert any(begins[stage - 1] in name for name in task.parts[f"block-{stage}"])
        assert (set(task.parts["head"]) == {"output.weight", "output.bias"}) == (growth == "symmetric" or stage == 3)
        ran.clear()
        learner.prepare(0)
        outcome = client_of("progfed", settings).perform(task, {}, learner)
        task.reply.check(outcome.answer.arrays)
        assert all(array.any() for name, array in outcome.answer.arrays.items() if "bias" not in name)
        # Ways up into a level that has not grown take part in none of it; everything else that is there does.
        assert set(ran) <= set(task.arrays)
    assert set(run[-2][1].arrays) == set(model)


def names_of(model: nn.Module, module: nn.Module) -> list[str]:
    """The arrays that a module without children owns, by their names in the model."""
    if list(module.children()):
        return []
    mine = {id(tensor) for tensor in module.parameters()}
    return [name for name, tensor in model.named_parameters() if id(tensor) in mine]
