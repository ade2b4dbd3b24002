"""Laws of decentralized knowledge distillation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.methods.fleet import first_model, learners, run_settings, simulated
from thinwire.methods.arrays import under
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.definition import define
from thinwire.methods.values import Contribution, State

FLEET = learners(3, split="dirichlet:1")
MODEL = first_model(FLEET)
PARAMETERS = sum(array.size for array in MODEL.values())


def test_without_steps_it_is_fedavg_bit_for_bit() -> None:
    for chains in ("default", "plain"):
        given = {"server_optimizer": "momentum", "server_momentum": 0.5}
        run = run_settings("feddkd", {"distil_steps": 0, **given}, rounds=3, chains=chains)
        plain = run_settings("fedavg", given, rounds=3, chains=chains)
        assert pack_state(simulated(run, FLEET, MODEL).state) == pack_state(simulated(plain, FLEET, MODEL).state)


def test_a_vanishing_rate_gives_fedavg() -> None:
    run = run_settings("feddkd", {"distil_lr": 1e-30, "distil_optimizer": "sgd"}, rounds=2, chains="plain")
    expected = simulated(run_settings("fedavg", rounds=2, chains="plain"), FLEET, MODEL).model
    found = simulated(run, FLEET, MODEL).model
    assert expected is not None
    assert found is not None
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-25)


def test_one_client_alone_has_nothing_to_learn_from_itself() -> None:
    """To float rounding: the student is w + (w_k - w). The rate is so large that a real gradient would show."""
    fleet = {"client-01": FLEET["client-01"]}
    given = {"distil_lr": 10.0, "distil_optimizer": "sgd", "distil_steps": 2}
    run = run_settings("feddkd", given, rounds=1, cohort=1, chains="plain")
    expected = simulated(run_settings("fedavg", rounds=1, cohort=1, chains="plain"), fleet, MODEL).model
    found = simulated(run, fleet, MODEL).model
    assert expected is not None
    assert found is not None
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)
    labels = simulated(run_settings("feddkd", {**given, "distil_target": "labels"}, rounds=1, cohort=1), fleet, MODEL)
    assert labels.model is not None
    assert max(np.abs(labels.model[name] - expected[name]).max() for name in expected) > 1e-2


@pytest.mark.parametrize("steps", [1, 3])
def test_plain_chains_cost_two_ways_of_every_exchange(steps: int) -> None:
    """2 (1 + M) P b per client and round, and one byte of header a payload."""
    run = run_settings("feddkd", {"distil_steps": steps}, rounds=1, chains="plain", evaluate=False)
    exchanges = simulated(run, FLEET, MODEL).exchanges
    assert [(e.kind, e.step) for e in exchanges] == [("train", 0), *[("distil", 1 + m) for m in range(steps)]]
    for exchanged in exchanges:
        assert exchanged.uplink_bytes == exchanged.downlink_bytes == 3 * (4 * PARAMETERS + 1)


def test_a_coded_step_costs_a_fraction_of_a_plain_exchange() -> None:
    plain = 2 * 3 * 4 * PARAMETERS
    costs = {}
    for bits in (8, 4):
        run = run_settings("feddkd", {"distil_bits": bits, "distil_steps": 1}, rounds=1, evaluate=False)
        exchanges = simulated(run, FLEET, MODEL).exchanges
        costs[bits] = max(e.uplink_bytes + e.downlink_bytes for e in exchanges if e.kind == "distil")
    assert costs[8] < plain / 4
    assert costs[4] < costs[8] / 1.8


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"distil_steps": 2, "distil_every": 2}, [1, 3, 1, 3]),
        ({"distil_steps": 2, "distil_rounds": "last"}, [1, 1, 1, 3]),
        ({"distil_steps": 5, "local_distil_steps": 2}, [4, 4, 4, 4]),
    ],
)
def test_which_rounds_distil_and_in_how_many_exchanges(given: dict[str, Any], expected: list[int]) -> None:
    run = run_settings("feddkd", given, rounds=4, evaluate=False, chains="plain")
    exchanges = simulated(run, FLEET, MODEL).exchanges
    assert [sum(e.round == round_ for e in exchanges) for round_ in (1, 2, 3, 4)] == expected


def states(given: dict[str, Any]) -> tuple[Any, State]:
    """A server after the training exchange of its first round."""
    server = define("run", run_settings("feddkd", given)).server
    state = server.start({"w": np.zeros(2, np.float32), "n.running_var": np.ones(2, np.float32)}, 0)
    update = {"w": np.full(2, 1, np.float32), "buffers/n.running_var": np.full(2, 0.5, np.float32)}
    return server, server.advance(state, server.reducer.add(server.reducer.zero(), Contribution(0, "c", 1, update)))


def stepped(server: Any, state: State, value: float) -> State:
    answer = Contribution(0, "c", 1, {"w": np.array([value, -value], np.float32)})
    following: State = server.advance(state, server.reducer.add(server.reducer.zero(), answer))
    return following


def test_the_moments_last_for_the_steps_of_a_round_and_no_longer() -> None:
    server, state = states({"distil_steps": 2, "distil_lr": 0.1})
    assert not under("distil", state.arrays)
    first = stepped(server, state, 3.0)
    assert set(under("distil", first.arrays)) == {"first/w", "second/w"}
    np.testing.assert_allclose(first.arrays["model/w"], [0.9, 1.1], rtol=1e-6)
    second = stepped(server, first, -3.0)
    assert (second.round, second.step) == (2, 0)
    assert not under("distil", second.arrays)
    # Adam with memory: m = 0.9 * 0.1 * 3 - 0.1 * 3 over 1 - 0.81, not a fresh step of 0.1.
    np.testing.assert_allclose(second.arrays["model/w"][0], 0.9 + 0.1 * 0.03 / 0.19 / 3, rtol=1e-5)


def test_a_step_is_weighted_over_those_who_answered_it() -> None:
    """Trained by two with 1 and 3 examples; the step is answered by one, then by both."""
    server = define("run", run_settings("feddkd", {"distil_optimizer": "sgd", "distil_lr": 0.5})).server
    state = server.start({"w": np.zeros(1, np.float32)}, 0)

    def after(answers: list[tuple[int, float]]) -> State:
        total = server.reducer.zero()
        for slot, (examples, value) in enumerate(answers):
            answer = Contribution(slot, f"c{slot}", examples, {"w": np.array([value], np.float32)})
            total = server.reducer.add(total, answer)
        return server.advance(state, total)

    state = after([(1, 4.0), (3, 8.0)])
    np.testing.assert_allclose(state.arrays["model/w"], [7.0])
    state = after([(3, 2.0)])
    np.testing.assert_allclose(state.arrays["model/w"], [6.0])
    state = after([(1, 2.0), (3, -2.0)])
    np.testing.assert_allclose(state.arrays["model/w"], [6.5])


def test_running_statistics_are_no_part_of_a_step() -> None:
    server, state = states({})
    task = server.task(state)
    assert (task.kind, task.cohort, list(task.reply)) == ("distil", "same", ["w"])
    np.testing.assert_array_equal(task.parts["model"]["buffers/n.running_var"], [1.5, 1.5])
    np.testing.assert_array_equal(stepped(server, state, 1.0).arrays["model/buffers/n.running_var"], [1.5, 1.5])


def test_a_step_without_its_quorum_ends_the_round_with_the_student_so_far() -> None:
    server, state = states({"distil_steps": 3})
    assert server.give_up(server.start({"w": np.zeros(2, np.float32)}, 0)) is None
    student = stepped(server, state, 1.0)
    after = server.give_up(student)
    assert (after.round, after.step) == (2, 0)
    assert not under("distil", after.arrays)
    np.testing.assert_array_equal(after.arrays["model/w"], student.arrays["model/w"])


def test_clients_may_drop_out_between_the_steps() -> None:
    run = run_settings("feddkd", {"distil_steps": 3}, rounds=2, quorum=2, evaluate=False, chains="plain")
    three = sorted(FLEET)
    sets = [three, three, three[1:], three[2:], three, three, three, three]
    exchanges = simulated(run, FLEET, MODEL, contributors=sets).exchanges
    assert [(e.round, e.step, e.given_up) for e in exchanges] == [
        (1, 0, False), (1, 1, False), (1, 2, False), (1, 3, True),
        (2, 0, False), (2, 1, False), (2, 2, False), (2, 3, False),
    ]  # fmt: skip


def test_it_helps_where_each_client_knows_two_classes() -> None:
    fleet = learners(5, examples=500, split="classes:2")
    model = first_model(fleet)
    settings = {"lr": 0.05}
    found = simulated(run_settings("feddkd", settings, rounds=5, cohort=5, chains="plain"), fleet, model)
    averaged = simulated(run_settings("fedavg", settings, rounds=5, cohort=5, chains="plain"), fleet, model)
    assert found.exchanges[-1].mean("accuracy") > averaged.exchanges[-1].mean("accuracy") + 0.1
