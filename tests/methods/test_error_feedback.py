"""Laws of error feedback: what a chain loses of an answer is sent later, once, and only of answers that counted."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.methods.fleet import client_of, first_model, learners, run_settings, simulated
from thinwire.codecs import Array, Arrays, Chain, Spec
from thinwire.methods.arrays import under
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.definition import define
from thinwire.methods.error_feedback import with_residual
from thinwire.methods.feddlr import FeddlrSettings
from thinwire.methods.values import Contribution, Outcome, Task

FLEET = learners(3, split="dirichlet:1")
LARGER = learners(3, examples=300)
MODEL = first_model(FLEET)
FEEDBACK = {"error_feedback": True}
LOSSY = [
    *(f"quantise({bits})" for bits in (1, 2, 4, 8)), "quantise(1, rounding='nearest')", "quantise(2, rotate=True)",
    "top_k(0.01)", "random_k(0.05)", "low_rank(0.5)", "low_rank(max_rank=2), quantise(4)",
]  # fmt: skip


def performed(chain: str, memory: Arrays, seed: int, **settings: Any) -> tuple[Outcome, Arrays]:
    """The outcome of one training exchange, and what the coordinator decodes of its answer."""
    learner, task = FLEET["client-00"], Task(1, 0, "train", {"model": MODEL}, Spec.of(MODEL))
    learner.prepare(seed, reply=task.reply, uplink=Chain.parse(chain), reference=MODEL)
    outcome = client_of("fedavg", {"epochs": 1, "batch_size": 50, **settings}).perform(task, memory, learner)
    return outcome, learner.decoded(outcome.answer.arrays)


@pytest.mark.parametrize("chain", LOSSY)
def test_what_was_sent_and_what_is_left_is_what_was_learnt(chain: str) -> None:
    memory: Arrays = {}
    sent = {name: np.zeros(array.shape) for name, array in MODEL.items()}
    learnt = {name: np.zeros(array.shape) for name, array in MODEL.items()}
    for seed in range(4):
        outcome, decoded = performed(chain, memory, seed, **FEEDBACK)
        exact = performed("", {}, seed)[1]
        assert outcome.memory_if_refused is memory
        memory = outcome.memory_if_accepted
        for name in MODEL:
            sent[name] += decoded[name]
            learnt[name] += exact[name]
    residual = under("residual", memory)
    assert residual
    for name in MODEL:
        np.testing.assert_allclose(sent[name] + residual.get(name, 0.0), learnt[name], rtol=0, atol=2e-6)


def test_where_nothing_is_lost_nothing_is_kept() -> None:
    assert performed("byte_shuffle, zstd", {}, 0, **FEEDBACK)[0].memory_if_accepted == {}
    with_it, without = (
        simulated(run_settings("fedavg", settings, chains="plain"), FLEET, MODEL).state for settings in (FEEDBACK, {})
    )
    assert pack_state(with_it) == pack_state(without)


@pytest.mark.parametrize("chain", LOSSY)
def test_no_chain_loses_more_than_it_is_given(chain: str) -> None:
    """The condition of convergence; an unbiased code of one bit alone would lose many times as much."""
    learner = FLEET["client-00"]
    arrays = {name: array * np.exp(array) for name, array in MODEL.items()}
    learner.prepare(5, reply=Spec.of(arrays), uplink=Chain.parse(chain))
    answer, residual = with_residual(arrays, learner)
    decoded = learner.decoded(answer)
    for name, array in arrays.items():
        np.testing.assert_array_equal(residual.get(name, np.zeros_like(array)), array - decoded[name])
        assert np.linalg.norm(residual.get(name, np.zeros(1))) <= np.linalg.norm(array)


@pytest.mark.parametrize("chain", ["top_k(0.02)", "quantise(1, rounding='nearest')"])
def test_a_coarse_chain_learns_with_it(chain: str) -> None:
    """One element in fifty, or signs alone: without the rest the model learns little, or runs away."""
    losses = {}
    for name, settings in (("with", FEEDBACK), ("without", {})):
        run = run_settings("fedavg", {"lr": 0.1, **settings}, rounds=7, uplink=chain, max_value=1e6)
        losses[name] = simulated(run, LARGER, MODEL).exchanges[-1].mean("loss")
    assert losses["with"] < 0.9 * losses["without"]
    assert losses["with"] < 1.5


def test_feddkd_keeps_the_residuals_of_its_two_exchanges_apart() -> None:
    learner = FLEET["client-01"]
    half = client_of("feddkd", {**FEEDBACK, "distil_steps": 1})
    memory: Arrays = {}
    kept = []
    for step, kind in ((0, "train"), (1, "distil"), (0, "train")):
        task = Task(1, step, kind, {"model": MODEL}, Spec.of(MODEL))
        learner.prepare(step, reply=task.reply, uplink=Chain.parse("quantise(4)"), reference=MODEL)
        memory = half.perform(task, memory, learner).memory_if_accepted
        kept.append({heading: under(heading, memory) for heading in ("train", "residual")})
    assert kept[0]["train"]
    assert not kept[0]["residual"]
    assert all(np.array_equal(kept[1]["train"][name], array) for name, array in kept[0]["train"].items())
    assert kept[1]["residual"]
    assert not kept[2]["residual"]
    assert any(not np.array_equal(kept[2]["train"][name], array) for name, array in kept[1]["train"].items())


def test_progfed_keeps_the_residual_of_what_it_does_not_train_and_forgets_that_of_another_head() -> None:
    settings = {**FEEDBACK, "schedule": [2, 2, 2], "warm_up": 1}
    half, server = (
        client_of("progfed", settings),
        define("run", run_settings("progfed", settings, rounds=6, cohort=1)).server,
    )
    state, memory = server.start(MODEL, 0), dict[str, Array]()
    learner, owed = FLEET["client-00"], []
    while (task := server.task(state)) is not None:
        learner.prepare(state.round, reply=task.reply, uplink=Chain.parse("top_k(0.02)"), reference=task.arrays)
        outcome = half.perform(task, memory, learner)
        memory = dict(outcome.memory_if_accepted)
        owed.append((len(task.parts), set(task.reply), under("residual", memory)))
        answer = Contribution(0, "client-00", 1, learner.decoded(outcome.answer.arrays))
        state = server.advance(state, server.reducer.add(server.reducer.zero(), answer))
    assert len({stage for stage, _, _ in owed}) == 3
    for (stage, _, before), (later, trained, after) in pairwise(owed):
        for name, array in before.items():
            if name not in trained and (stage == later or name in MODEL):
                np.testing.assert_array_equal(after[name], array)
        if stage != later:
            assert all(name in MODEL or name in trained for name in after)


def test_truncated_weights_have_no_residual() -> None:
    with pytest.raises(ValidationError, match="error-feedback is for updates"):
        FeddlrSettings(object="weights", error_feedback=True)
