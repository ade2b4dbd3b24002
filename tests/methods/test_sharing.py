"""What a run shares of a model, and what stays with each client."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.fleet import first_model, learners_of, run_settings, simulated, table
from thinwire.codecs import CodecError
from thinwire.edge_client.learner import Learner
from thinwire.methods.arrays import same_bits
from thinwire.methods.client_half import client_half
from thinwire.methods.definition import define
from thinwire.methods.registry import find_method
from thinwire.methods.settings import LocalTraining
from thinwire.methods.sharing import is_shared
from thinwire.methods.simulation import Participant, simulate
from thinwire.protocol.reasons import ProblemError


class Adapted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.lora_A, self.lora_B = nn.Linear(6, 2, bias=False), nn.Linear(2, 6, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        inputs = self.norm(inputs)
        found: torch.Tensor = self.head(inputs + self.lora_B(self.lora_A(inputs)))
        return found


FLEET = learners_of(Adapted, table)
MODEL = first_model(FLEET)


def run(method: str = "fedavg", **settings: Any) -> tuple[Any, dict[str, Participant], set[str]]:
    """The result, the clients, and the names of the arrays that travelled."""
    found = run_settings(method, {key.replace("_", "-"): value for key, value in settings.items()}, cohort=2)
    half = client_half(method)(find_method(method).settings.model_validate(found.settings))
    clients = {name: Participant(half, learner) for name, learner in FLEET.items()}
    result = simulate(found, MODEL, clients)
    task = define("run", found).server.evaluation(result.state)
    assert task is not None
    return result, clients, {name for arrays in task.parts.values() for name in arrays}


@pytest.mark.parametrize(
    ("share", "name", "shared"),
    [
        ("", "a.b", True),
        ("lora_B", "encoder.0.lora_B", True),
        ("lora_B", "encoder.0.lora_B.weight", True),
        ("lora_B", "encoder.0.lora_Bx", False),
        ("lora_B,head.*", "head.bias", True),
        ("lora_*", "encoder.0.lora_A.weight", True),
        ("!norm*", "encoder.norm1.weight", False),
        ("!norm*", "encoder.head.weight", True),
        ("encoder,!bias", "encoder.head.bias", False),
        ("norm", "buffers/norm.running_mean", True),
    ],
)
def test_patterns_are_of_whole_steps_of_a_name(share: str, name: str, shared: bool) -> None:
    assert is_shared(name, LocalTraining(share=share)) is shared


@pytest.mark.parametrize("method", ["fedavg", "feddlr", "feddkd"])
def test_what_is_not_shared_stays_as_every_client_began(method: str) -> None:
    """FFA: only B and the head travel and are trained; the file of the model is whole, in its order."""
    result, clients, names = run(method, share="lora_B,head.*")
    assert names == {"lora_B.weight", "head.weight", "head.bias"}
    assert list(result.model) == list(MODEL)
    for name, array in result.model.items():
        assert (array.tobytes() == MODEL[name].tobytes()) is (name not in names), name
    for client in clients.values():
        held = client.learner.arrays()
        assert same_bits(*({n: one[n] for n in MODEL if "norm" not in n} for one in (held, dict(result.model))))
        assert not any(name.startswith("own/") for name in client.memory)


@pytest.mark.parametrize("method", ["fedavg", "feddkd"])
def test_what_is_local_is_each_client_s_own_and_goes_on(method: str) -> None:
    """FedSA: A travels, B is trained and kept; also by a client that is started again."""
    result, clients, names = run(method, share="lora_A,head.*", unshared="local")
    assert names == {"lora_A.weight", "head.weight", "head.bias"}
    kept = [clients[name].memory["own/lora_B.weight"] for name in sorted(clients)]
    assert not np.array_equal(*kept)
    assert all(array.any() for array in kept)
    before = {name: client.learner.evaluate() for name, client in clients.items()}
    assert before == {name: result.exchanges[-1].metrics[name] for name in clients}
    fresh = learners_of(Adapted, table)
    task = define(
        "run", run_settings(method, {"share": "lora_A,head.*", "unshared": "local"}, cohort=2)
    ).server.evaluation(result.state)
    assert task is not None
    for name, client in clients.items():
        measured = client.half.evaluate(task, client.memory, fresh[name]).answer.metrics
        assert measured == before[name]


def test_statistics_may_stay_with_each_client() -> None:
    result, clients, names = run(buffers="local")
    assert names == {name for name in MODEL if "running" not in name}
    means = [client.memory["own/norm.running_mean"] for client in clients.values()]
    assert not np.array_equal(*means)
    assert np.array_equal(result.model["norm.running_mean"], MODEL["norm.running_mean"])


def test_what_cannot_be_shared_is_told() -> None:
    with pytest.raises(ProblemError, match=r"share = 'nothing' names no parameter of the model: norm\.weight"):
        simulated(run_settings("fedavg", {"share": "nothing"}, cohort=2), FLEET, MODEL)
    with pytest.raises(ProblemError, match="progfed cuts the model itself"):
        define("run", run_settings("progfed", {"share": "head"}))


def test_a_learner_begins_again_with_what_it_began_with() -> None:
    learner: Learner = FLEET["client-00"]
    learner.load({name: array + 1 for name, array in MODEL.items()})
    learner.begin_again(["head.weight"])
    assert np.array_equal(learner.arrays()["head.weight"], MODEL["head.weight"])
    assert np.array_equal(learner.arrays()["head.bias"], MODEL["head.bias"] + 1)
    with pytest.raises((CodecError, KeyError)):
        learner.begin_again(["no.such"])
