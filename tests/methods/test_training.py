"""Local training: torch's own steps to the bit, without what makes a client heavy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.fleet import client_of, first_model, learners, run_settings, train
from thinwire.codecs import Arrays
from thinwire.methods.arrays import same_bits
from thinwire.methods.client_half import check_needs
from thinwire.methods.local_optimizers import Adaptive, Descent
from thinwire.methods.progress import DIVERGING, NO_NUMBER
from thinwire.methods.registry import find_method
from thinwire.methods.simulation import Participant, simulate
from thinwire.methods.values import TaskRefusedError


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 5, 3), nn.GroupNorm(1, 5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 7))


def trained_of(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, one) for name, one in model.named_parameters() if one.requires_grad]


Build = Callable[[nn.Module], Any]
PAIRS: dict[str, tuple[Build, Build]] = {
    f"sgd {momentum} {decay}": (
        lambda model, m=momentum, d=decay: Descent(trained_of(model), 0.1, m, d),
        lambda model, m=momentum, d=decay: torch.optim.SGD(
            [one for _, one in trained_of(model)], 0.1, m, weight_decay=d
        ),
    )
    for momentum in (0.0, 0.9)
    for decay in (0.0, 1e-2)
} | {
    f"{rule.__name__} {decay}": (
        lambda model, r=rule, d=decay: Adaptive(
            trained_of(model), 0.01, (0.8, 0.95), d, decoupled=r is torch.optim.AdamW
        ),
        lambda model, r=rule, d=decay: r([one for _, one in trained_of(model)], 0.01, (0.8, 0.95), weight_decay=d),
    )
    for rule in (torch.optim.Adam, torch.optim.AdamW)
    for decay in (0.0, 1e-2)
}


def _steps(model: nn.Module, optimiser: Any, steps: range) -> list[torch.Tensor]:
    inputs = torch.randn(6, 6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for step in steps:
        optimiser.zero_grad()
        model(inputs[step]).square().mean().backward()
        if step in (0, 3):
            model[0].bias.grad = None
        optimiser.step()
    return [one.detach().clone() for one in model.parameters()]


@pytest.mark.parametrize("pair", PAIRS)
def test_our_optimisers_are_those_of_torch_to_the_bit(pair: str) -> None:
    """Also with a parameter that is frozen, and with one that has no gradient in some steps."""
    found = []
    for build in PAIRS[pair]:
        model = _model()
        model[1].bias.requires_grad_(False)
        found.append(_steps(model, build(model), range(6)))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


@pytest.mark.parametrize("pair", PAIRS)
def test_an_optimiser_goes_on_from_its_state(pair: str) -> None:
    """As if it had never stopped; what is of another shape begins anew."""
    whole, halves = _model(), _model()
    wanted = _steps(whole, PAIRS[pair][0](whole), range(6))
    first = PAIRS[pair][0](halves)
    _steps(halves, first, range(3))
    second = PAIRS[pair][0](halves)
    second.take_up({**first.arrays(), "momentum/9.weight": np.zeros(3, "f4")})
    assert all(torch.equal(a, b) for a, b in zip(wanted, _steps(halves, second, range(3, 6)), strict=True))


def plain(settings: dict[str, Any], build: Build, *, norm: float = 0.0, dtype: torch.dtype | None = None) -> Arrays:
    """What one would write without us, on the examples and in the order of a client."""
    learner = learners(1, examples=60, hidden=[8])["client-00"]
    learner.prepare(3)
    torch.manual_seed(3)
    model, optimiser, step = learner.model.train(), build(learner.model), 0
    lr = settings.get("lr", 0.05)
    for epoch in range(settings.get("epochs", 1)):
        for batch in learner.train.batches(8, 3 + epoch):
            optimiser.zero_grad()
            with torch.autocast("cpu", dtype) if dtype else nullcontext():
                value = learner.loss(model(batch.inputs), batch.targets)
            value.backward()
            if norm:
                nn.utils.clip_grad_norm_(model.parameters(), norm)
            for group in optimiser.param_groups:
                group["lr"] = lr * min(1.0, (step + 1) / max(1, settings.get("warmup-steps", 0)))
            optimiser.step()
            step += 1
            if step == settings.get("steps"):
                return learner.arrays()
    return learner.arrays()


@pytest.mark.parametrize(
    ("settings", "build", "more"),
    [
        ({}, lambda m: torch.optim.SGD(m.parameters(), 0.05, 0.9), {}),
        ({"local-optimizer": "adam", "lr": 0.01}, lambda m: torch.optim.Adam(m.parameters(), 0.01), {}),
        (
            {"local-optimizer": "adamw", "lr": 0.01, "weight-decay": 0.1, "warmup-steps": 5, "epochs": 2},
            lambda m: torch.optim.AdamW(m.parameters(), 0.01, weight_decay=0.1),
            {},
        ),
        ({"clip-norm": 0.01}, lambda m: torch.optim.SGD(m.parameters(), 0.05, 0.9), {"norm": 0.01}),
        ({"precision": "bf16"}, lambda m: torch.optim.SGD(m.parameters(), 0.05, 0.9), {"dtype": torch.bfloat16}),
        ({"steps": 11, "epochs": 9}, lambda m: torch.optim.SGD(m.parameters(), 0.05, 0.9), {}),
    ],
)
def test_local_training_is_the_loop_that_one_would_write(
    settings: dict[str, Any], build: Build, more: dict[str, Any]
) -> None:
    learner = learners(1, examples=60, hidden=[8])["client-00"]
    learner.prepare(3)
    train(learner, **{"lr": 0.05, **settings})
    assert same_bits(learner.arrays(), plain(settings, build, **more))


def test_batches_that_go_together_are_one_large_batch() -> None:
    found = []
    for settings in ({"batch-size": 16}, {"batch-size": 4, "accumulate": 4}):
        learner = learners(1, examples=70, hidden=[8])["client-00"]
        learner.prepare(3)
        train(learner, 0.05, epochs=2, **settings)
        found.append(learner.arrays())
    for name, array in found[0].items():
        np.testing.assert_allclose(found[1][name], array, atol=1e-6)


def test_half_precision_trains_and_survives_a_gradient_that_is_too_large() -> None:
    learner = learners(1, examples=120, hidden=[8])["client-00"]
    learner.prepare(3)
    before, after = learner.evaluate()["loss"], {}
    train(learner, 0.05, epochs=3, precision="fp16")
    after = learner.evaluate()
    assert np.isfinite(after["loss"])
    assert after["loss"] < before
    start = learner.arrays()
    learner.loss = lambda outputs, targets: nn.functional.cross_entropy(outputs, targets) * 1e30 * 1e9
    found = train(learner, 0.05, precision="fp16")
    assert found.metrics[DIVERGING] == NO_NUMBER
    assert same_bits(learner.arrays(), start)


@pytest.mark.parametrize(("lr", "diverges"), [(0.05, False), (4.0, True)])
def test_a_rate_that_is_too_high_is_named(lr: float, diverges: bool) -> None:
    learner = learners(1, examples=300, hidden=[32])["client-00"]
    learner.prepare(3)
    found = train(learner, lr, epochs=3)
    assert (DIVERGING in found.metrics) is diverges
    for round_ in range(5):
        # Nor where there is little left to learn, and the first batch says nothing.
        learner.prepare(round_)
        found = train(learner, 0.01, epochs=1)
        assert diverges or DIVERGING not in found.metrics


@pytest.mark.parametrize("method", ["fedavg", "feddlr", "feddkd", "progfed"])
def test_a_kept_state_goes_on_and_a_fresh_one_begins_anew(method: str) -> None:
    """One round of four steps, or two of two, of a single client: with a kept state and exact chains the same."""
    ends = {}
    for keep in ("keep", "fresh"):
        fleet = learners(1, examples=60, hidden=[8])
        half = client_of(method, {"local-optimizer": "adamw", "lr": 0.01, "local-state": keep})
        run = run_settings(method, half.settings.told(), cohort=1, rounds=3)
        participant = Participant(half, fleet["client-00"])
        simulate(run, first_model(fleet), {"client-00": participant})
        ends[keep] = {name: array for name, array in participant.memory.items() if name.startswith("optimizer/steps")}
    assert not ends["fresh"]
    steps = {int(array) for array in ends["keep"].values()}
    assert max(steps) >= 3 * 6


def test_a_task_s_own_optimizer_goes_before_the_run_s() -> None:
    fleet = learners(1, examples=60, hidden=[8])
    learner = fleet["client-00"]
    learner.optimizer = lambda parameters, lr: torch.optim.RMSprop(parameters, lr)
    learner.prepare(3)
    train(learner, 0.001)
    assert same_bits(
        learner.arrays(), plain({"lr": 0.001}, lambda model: torch.optim.RMSprop(model.parameters(), 0.001))
    )
    for method, settings in {"fedavg": {"local-state": "keep"}, "sparse_masks": {}}.items():
        with pytest.raises(TaskRefusedError, match=f"{method} needs an optimiser of the run"):
            check_needs(client_of(method, settings), learner, method)


def test_plans_carry_new_settings_only_where_they_are_set() -> None:
    """Older clients know none of them."""
    plain_one = find_method("fedavg").settings.model_validate({}).told()
    assert "local-optimizer" not in plain_one
    assert "epochs" in plain_one
    told = find_method("fedavg").settings.model_validate({"local-optimizer": "adam"}).told()
    assert {key: told[key] for key in told if key not in plain_one} == {"local-optimizer": "adam"}


TRAINING = """
import sys
from benchmarks.training import WORKLOADS, learner_of, performed, stages_of
from thinwire.methods.progress import DIVERGING, NO_NUMBER
from thinwire.methods.registry import method_ids

learner = learner_of(WORKLOADS[0], 64)
learner.prepare(0)
first = learner.arrays()
for method in method_ids():
    for settings in stages_of(method, first).values():
        performed(method, settings, learner, first)()
    assert "torch._dynamo" not in sys.modules, method
"""


def test_no_client_loads_a_compiler(root: Path) -> None:
    """torch._dynamo costs a device a second of its processor and 76 MB, and objects of torch.optim load it."""
    done = subprocess.run([sys.executable, "-c", TRAINING], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
