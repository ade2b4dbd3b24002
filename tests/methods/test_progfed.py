"""Laws of progressive training: rounds, growth, warm-up, bytes, operations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.methods.fleet import client_of, first_model, learners, run_settings, simulated, train
from thinwire.codecs import Arrays, CodecError, Spec
from thinwire.methods.arrays import under
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.definition import define
from thinwire.methods.progfed import ProgfedSettings
from thinwire.methods.progfed.cuts import TEMPORARY
from thinwire.methods.progfed.growing import stage_model
from thinwire.methods.values import Contribution, State, Task

FLEET = learners(3)
MODEL = first_model(FLEET)
NAMES = set(MODEL)
# digits_convnet has three blocks: one round for each stage but the last.
GROWING = {"schedule": [1, 1, 2], "epochs": 1, "lr": 0.05}


def answered(server: Any, state: State) -> State:
    """The state after one answer that moves every array it holds."""
    task = server.task(state)
    arrays = {name: np.full(item.max_shape, 0.25, np.float32) for name, item in task.reply.items()}
    return server.advance(state, server.reducer.add(server.reducer.zero(), Contribution(0, "c", 1, arrays)))


def walked(server: Any, state: State) -> list[tuple[State, Task]]:
    """Every exchange of a run: the state before it, and its task."""
    found = []
    while (task := server.task(state)) is not None:
        found.append((state, task))
        state = answered(server, state)
    return [*found, (state, task)]


def course(settings: Mapping[str, Any], rounds: int, model: Arrays = MODEL) -> list[tuple[State, Task]]:
    server = define("run", run_settings("progfed", settings, rounds=rounds)).server
    return walked(server, server.start(model, 0))


@pytest.mark.parametrize(
    ("schedule", "stages", "rounds", "expected"),
    [
        ("paper", 4, 2000, [250, 250, 250, 1250]),
        ("paper", 3, 1500, [250, 250, 1000]),
        ("equal", 4, 100, [25, 25, 25, 25]),
        ("equal", 3, 10, [3, 3, 4]),
        ("paper", 3, 5, [0, 0, 5]),
        ((2, 3), 2, 5, [2, 3]),
    ],
)
def test_schedules_divide_the_rounds(schedule: Any, stages: int, rounds: int, expected: list[int]) -> None:
    assert ProgfedSettings(schedule=schedule).lengths(stages, rounds) == expected
    assert sum(expected) == rounds


@pytest.mark.parametrize("settings", [{"schedule": [1, 1]}, {"schedule": [1, 2, 3]}, {"schedule": [2, 2, 0]}])
def test_a_schedule_that_does_not_fit_is_refused(settings: Mapping[str, Any]) -> None:
    with pytest.raises(CodecError, match="bad-spec"):
        define("run", run_settings("progfed", settings, rounds=4)).server.start(MODEL, 0)


def test_the_stage_never_falls_and_the_last_model_has_no_temporary_head() -> None:
    run = course({"schedule": "equal", "warm_up": 1}, 7)
    stages = [len(task.parts) for _, task in run[:-1]]
    assert stages == sorted(stages)
    assert set(stages) == {2, 3, 4}
    final = run[-1][0]
    server = define("run", run_settings("progfed", rounds=7)).server
    model = server.model(final)
    assert model is not None
    assert set(model) == NAMES
    assert not under("temporary", final.arrays)


def test_growth_keeps_old_blocks_bit_for_bit_and_begins_new_ones_as_they_came() -> None:
    run = course({**GROWING, "server_optimizer": "momentum"}, 4)
    for (before, task), (after, following) in pairwise(run[:-1]):
        if len(following.parts) == len(task.parts):
            continue
        new = following.parts[f"block-{len(task.parts)}"]
        assert all((array == MODEL[name]).all() for name, array in new.items())
        old = [name for part in list(task.parts)[:-1] for name in task.parts[part]]
        # As this exchange has made them, with nothing done to them since.
        for name in old:
            assert (following.arrays[name] == under("model", after.arrays)[name]).all()
            assert (following.arrays[name] != under("model", before.arrays)[name]).all()
        assert not under("first", after.arrays), "the server's optimiser restarts"
    heads = [task.parts["head"] for _, task in run[:-1]]
    assert [set(head) == set(TEMPORARY.values()) for head in heads] == [True, True, False, False]
    assert heads[0][TEMPORARY["weight"]].shape == (10, 16)
    assert heads[1][TEMPORARY["weight"]].shape == (10, 32)
    assert np.abs(heads[1][TEMPORARY["weight"]]).max() <= 1 / math.sqrt(32)
    assert all((heads[2][name] == MODEL[name]).all() for name in heads[2])


def test_warm_up_moves_the_new_block_and_head_alone() -> None:
    given = {**GROWING, "warm_up": 2, "lr": 0.2}
    run = course(given, 4)
    assert [(task.round, task.step, task.kind) for _, task in run[:-1]] == [
        (1, 0, "train"), (2, 0, "warm-up"), (2, 1, "warm-up"), (2, 2, "train"),
        (3, 0, "warm-up"), (3, 1, "warm-up"), (3, 2, "train"), (4, 0, "train"),
    ]  # fmt: skip
    for (_, task), (after, _) in pairwise(run):
        assert task.cohort == "new"
        grown = list(task.parts)[:-1]
        expected = grown[-1:] if task.kind == "warm-up" else grown
        assert set(task.reply) == {n for part in (*expected, "head") for n in task.parts[part]}
        if task.kind == "warm-up":
            for part in grown[:-1]:
                for name, array in task.parts[part].items():
                    assert (under("model", after.arrays)[name] == array).all()
    rates = {(task.round, task.options["lr"]) for _, task in run[:-1]}
    assert [rate for _, rate in sorted(rates)] == pytest.approx(
        [0.2 * 0.5 * (1 + math.cos(math.pi * t / 4)) for t in range(4)]
    )


def test_a_client_in_warm_up_changes_nothing_old() -> None:
    run = course({**GROWING, "warm_up": 1}, 4)
    _, task = run[1]
    learner = FLEET["client-00"]
    learner.prepare(1)
    outcome = client_of("progfed", GROWING).perform(task, {}, learner)
    task.reply.check(outcome.answer.arrays)
    assert all(array.any() for array in outcome.answer.arrays.values())
    for name, array in task.parts["block-1"].items():
        assert (learner.arrays()[name] == array).all()
    assert learner.spec == Spec.of(learner.arrays()), "nothing stays frozen"


@pytest.mark.parametrize("chains", ["default", "plain"])
def test_one_stage_is_fedavg_bit_for_bit(chains: str) -> None:
    given = {"weighting": "uniform", "lr": 0.05, "weight_decay": 0.0, "server_optimizer": "momentum"}
    plain = run_settings("fedavg", given, rounds=3, chains=chains)
    grown = run_settings(
        "progfed", {**given, "stages": [3], "lr_schedule": "constant", "warm_up": 3}, rounds=3, chains=chains
    )
    expected, found = simulated(plain, FLEET, MODEL), simulated(grown, FLEET, MODEL)
    assert pack_state(found.state) == pack_state(expected.state)


def test_bytes_are_the_sum_over_stages() -> None:
    """Raw arrays and one byte of container for each part; what has not changed is not sent again."""
    settings = {**GROWING, "warm_up": 1}
    sizes = {"block-1": 160, "block-2": 4_640, "block-3": 8_256}
    heads = [16 * 10 + 10, 32 * 10 + 10, 650]
    result = simulated(run_settings("progfed", settings, rounds=4, chains="plain"), FLEET, MODEL)
    up, down = [], []
    changed = set(sizes)
    for stage, kind in [(1, "train"), (2, "warm-up"), (2, "train"), (3, "warm-up"), (3, "train"), (3, "train")]:
        blocks = list(sizes)[:stage]
        fresh = [name for name in blocks if name in changed]
        down.append(sum(4 * sizes[name] + 1 for name in fresh) + 4 * heads[stage - 1] + 1)
        changed = set(blocks[-1:] if kind == "warm-up" else blocks) | set(list(sizes)[stage:])
        sent = blocks[-1:] if kind == "warm-up" else blocks
        up.append(4 * (sum(sizes[name] for name in sent) + heads[stage - 1]) + 1)
    trained = result.exchanges[:-1]
    assert [exchanged.uplink_bytes for exchanged in trained] == [3 * size for size in up]
    assert [exchanged.downlink_bytes for exchanged in trained] == [3 * size for size in down]


def test_a_stage_costs_the_operations_of_its_own_model_alone() -> None:
    """Forwards and backwards, counted as they run, against the same model built by hand; and which blocks ran."""
    learner = FLEET["client-01"]
    blocks, evaluation = list(learner.model.children()), learner.evaluation
    counted, ran = [], list[int]()
    hooks = [
        piece.register_forward_hook(lambda *_, index=index: ran.append(index)) for index, piece in enumerate(blocks)
    ]
    learner.evaluation = None
    try:
        for stage, (_, task) in enumerate(course(GROWING, 4)[:3], start=1):
            ran.clear()
            learner.prepare(0)
            with FlopCounterMode(display=False) as found:
                client_of("progfed", GROWING).perform(task, {}, learner)
            assert set(ran) == set(range(stage if stage < 3 else 4))
            head = (
                [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear((16, 32)[stage - 1], 10)] if stage < 3 else blocks[3:]
            )
            with FlopCounterMode(display=False) as expected:
                train(learner, 0.05, model=nn.Sequential(*blocks[:stage], *head))
            assert found.get_total_flops() == expected.get_total_flops()
            counted.append(found.get_total_flops())
        assert counted == sorted(set(counted))
    finally:
        learner.evaluation = evaluation
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize(
    ("uplink", "share"),
    [
        ("quantise(8)", 1 / 4),
        ("quantise(4), entropy", 1 / 8),
        ("quantise(2, rotate=True), entropy", 1 / 16),
        ("random_k(0.25)", 1 / 4),
        ("random_k(0.1), quantise(8)", 1 / 40),
    ],
)
def test_compression_goes_on_top(uplink: str, share: float) -> None:
    """LQ-b, SP-p and both, to their arithmetic and a few bytes per array; every stage is compressed alike."""
    thin = simulated(run_settings("progfed", GROWING, rounds=4, uplink=uplink), FLEET, MODEL)
    full = simulated(run_settings("progfed", GROWING, rounds=4, chains="plain"), FLEET, MODEL)
    for one, plain in zip(thin.exchanges, full.exchanges, strict=True):
        assert one.uplink_bytes <= share * plain.uplink_bytes + 3 * 8 * 32
        assert one.downlink_bytes > 0


def test_training_on_the_digits_works() -> None:
    fleet = learners(4, examples=600, split="dirichlet:1")
    given = {"schedule": [1, 1, 8], "lr": 0.05}
    result = simulated(run_settings("progfed", given, rounds=10, cohort=4), fleet, first_model(fleet))
    assert result.exchanges[-1].mean("accuracy") > 0.75
    whole = simulated(run_settings("fedavg", rounds=10, cohort=4), fleet, first_model(fleet))
    assert sum(e.uplink_bytes for e in result.exchanges) < 0.9 * sum(e.uplink_bytes for e in whole.exchanges)


def test_a_stage_lies_where_its_model_lies() -> None:
    """On torch's device without memory, since a processor is the only other one everywhere."""
    task = course(GROWING, 4)[0][1]
    assert task is not None
    learner = learners(1)["client-00"]
    grown, temporary = stage_model(learner.model.to("meta"), task.arrays, 1, "front")
    assert {str(tensor.device) for tensor in (*grown.parameters(), *temporary.values())} == {"meta"}
