"""Laws of the simulation: it is the service's run without the service, replayed from the list of contributors."""

from __future__ import annotations

import numpy as np
import pytest

from tests.methods.fleet import first_model, learners, run_settings, simulated
from thinwire.methods.checkpoint import pack_state
from thinwire.protocol.identity import cohort_order

FLEET = learners(4, examples=100)
MODEL = first_model(FLEET)


def test_each_round_asks_the_first_of_its_own_order_and_a_cohort_same_asks_them_again() -> None:
    run = run_settings("toy_relay", cohort=2, rounds=3, seed=7)
    found = simulated(run, FLEET, MODEL).exchanges
    assert [(e.round, e.step, e.kind) for e in found] == [
        *[(round_, step, "echo" if step else "draw") for round_ in (1, 2, 3) for step in (0, 1, 2)],
        (4, 0, "evaluate"),
    ]
    for exchanged in found:
        assert exchanged.contributors == sorted(cohort_order(7, exchanged.round, FLEET)[:2])


def test_the_memory_of_accepted_answers_carries_over() -> None:
    """An echo answers half of the draw: mean + mean / 2 + mean / 4."""
    model = {name: np.zeros_like(array) for name, array in MODEL.items()}
    one = simulated(run_settings("toy_relay", {"steps": 1}, rounds=1, chains="plain"), FLEET, model).model
    three = simulated(run_settings("toy_relay", {"steps": 3}, rounds=1, chains="plain"), FLEET, model).model
    assert one is not None
    assert three is not None
    for name in model:
        np.testing.assert_allclose(three[name], 1.75 * one[name], rtol=1e-5, atol=1e-7)


def test_an_echo_without_its_quorum_ends_the_round() -> None:
    run = run_settings("toy_relay", cohort=2, rounds=2, quorum=2)
    pair, single = ["client-00", "client-01"], ["client-01"]
    sets = [pair, single, pair, pair, pair, pair]
    result = simulated(run, FLEET, MODEL, contributors=sets)
    assert [(e.round, e.step, e.given_up) for e in result.exchanges] == [
        (1, 0, False), (1, 1, True), (2, 0, False), (2, 1, False), (2, 2, False), (3, 0, False),
    ]  # fmt: skip


def test_a_draw_without_its_quorum_would_be_offered_again() -> None:
    with pytest.raises(ValueError, match="1 of 2 answers"):
        simulated(run_settings("toy_relay", cohort=2), FLEET, MODEL, contributors=[["client-00"]])


def test_too_few_contributor_sets_are_an_error() -> None:
    with pytest.raises(ValueError, match="exchange 1"):
        simulated(run_settings("fedavg"), FLEET, MODEL, contributors=[["client-00", "client-01", "client-02"]])


def test_a_replay_from_the_contributors_ends_in_the_same_state() -> None:
    run = run_settings("toy_relay", cohort=3, quorum=1, rounds=3)
    sets = [["client-02"], ["client-02"], ["client-02"], *[["client-00", "client-03"]] * 3, *[sorted(FLEET)] * 4]
    first = simulated(run, FLEET, MODEL, contributors=sets)
    second = simulated(run, FLEET, MODEL, contributors=[list(reversed(names)) for names in sets])
    assert pack_state(first.state) == pack_state(second.state)
    other = simulated(run, FLEET, MODEL, contributors=[["client-01"], ["client-01"], ["client-01"], *sets[3:]])
    assert pack_state(other.state) != pack_state(first.state)


def test_bytes_are_those_of_the_form_each_client_needs() -> None:
    """A part that is held costs nothing, a delta goes to whoever holds the exchange before, the full form to others."""
    run = run_settings("toy_relay", {"steps": 2}, cohort=2, rounds=2, quorum=1, evaluate=False)
    a, b = ["client-00"], ["client-01"]
    alone = simulated(run, FLEET, MODEL, contributors=[a, a, a, a]).exchanges
    changed = simulated(run, FLEET, MODEL, contributors=[a, a, b, b]).exchanges
    assert alone[1].downlink_bytes < alone[0].downlink_bytes
    assert alone[2].downlink_bytes < changed[2].downlink_bytes


def test_the_same_run_in_plain_chains_costs_what_its_arrays_hold() -> None:
    size = sum(array.nbytes for array in MODEL.values())
    run = run_settings("fedavg", cohort=4, chains="plain")
    for exchanged in simulated(run, FLEET, MODEL).exchanges[:2]:
        assert exchanged.downlink_bytes == 4 * (size + 1)
        assert exchanged.uplink_bytes == 4 * (size + 1)
