"""Laws of knowledge on a proxy set: averages, soft labels, whose set it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.fd_alu_runs import (
    CLASSES,
    FLEET,
    MODEL,
    SMALL,
    after,
    block,
    label_answer,
    server_of,
)
from tests.methods.fleet import learners
from thinwire.codecs import Arrays, CodecError
from thinwire.methods.arrays import same_bits
from thinwire.methods.fd_alu.proxy_labels import drawn
from thinwire.methods.fd_alu.server import Server
from thinwire.methods.fd_alu.teachers import outputs_on
from thinwire.methods.values import Contribution, TaskRefusedError


def proxy_server(**given: Any) -> Server:
    return server_of(knowledge="proxy", **{"proxy-samples": 2, **given})


def test_labels_are_averaged_as_probabilities_and_sharpened() -> None:
    first = label_answer([[1.0, 0.0, 0.0], [0.2, 0.2, 0.6]])
    second = label_answer([[0.5, 0.5, 0.0], [0.2, 0.2, 0.6]])
    mean = np.array([[0.75, 0.25, 0.0], [0.2, 0.2, 0.6]])
    powers = mean**1.5
    for given_, expected in (
        ({"sharpening": "none"}, mean),
        ({"sharpening": "enhanced-era"}, powers / powers.sum(1, keepdims=True)),
        ({}, np.exp(mean / 0.1) / np.exp(mean / 0.1).sum(1, keepdims=True)),
    ):
        found = after(proxy_server(**given_), {"a": first, "b": second}).arrays["labels"]
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_labels_on_the_wire_are_distributions_and_one_bit_is_the_arg_max(bits: int) -> None:
    given_ = {"knowledge": "proxy", "label-bits-up": bits, "label-bits-down": bits}
    learner, server = FLEET["client-00"], server_of(**SMALL, **given_)
    uplink = f"soft_labels({bits}), entropy"
    outcome = block(learner, server.start(MODEL, 0), server, {}, uplink, **given_)
    sent, decoded = outcome.answer.arrays["labels"], learner.decoded(outcome.answer.arrays)["labels"]
    assert (decoded >= 0).all()
    np.testing.assert_allclose(decoded.sum(1), 1, atol=1e-6)
    if bits == 1:
        np.testing.assert_array_equal(decoded, np.eye(CLASSES)[sent.argmax(1)])
    else:
        assert np.abs(decoded - sent).max() <= 1 / (2**bits - 1) + 1e-6


def test_only_the_surest_labels_are_sent() -> None:
    """DS-FL+: those of the lowest energy, -log sum exp of the scores."""
    learner, given_ = FLEET["client-00"], {"knowledge": "proxy"}
    server = server_of(**SMALL, **given_)
    every = block(learner, server.start(MODEL, 0), server, {}, **given_).answer.arrays
    some = server_of(**SMALL, **given_, **{"confident-share": 0.4})
    found = block(learner, some.start(MODEL, 0), some, {}, **given_, **{"confident-share": 0.4}).answer.arrays
    assert learner.proxy is not None
    scores = outputs_on(learner, learner.proxy, torch.from_numpy(drawn(10, 8, 7, 1))).astype(np.float64)
    surest = np.argsort(-np.log(np.exp(scores).sum(1)))[:3]
    np.testing.assert_array_equal(np.flatnonzero(found["sent"]), np.sort(surest))
    np.testing.assert_array_equal(found["labels"], every["labels"][found["sent"]])


def test_of_some_labels_each_is_the_average_of_whoever_sent_it() -> None:
    server = proxy_server(sharpening="none", **{"proxy-samples": 4, "confident-share": 0.5})
    state = server.start({"w": np.zeros((3, 2), np.float32)}, 0)
    third = np.float32(1 / 3).item()
    assert known_of(server, state) == ([False] * 4, [[third] * 3] * 4)
    answers = {
        "a": some_answer([[1.0, 0, 0], [0, 0.5, 0.5]], [True, True, False, False]),
        "b": some_answer([[0, 0, 1.0], [0.25, 0.25, 0.5]], [True, False, False, True]),
    }
    state = after(server, answers)
    labels = [[0.5, 0, 0.5], [0, 0.5, 0.5], [third] * 3, [0.25, 0.25, 0.5]]
    assert known_of(server, state) == ([True, True, False, True], labels)
    with pytest.raises(CodecError, match=r"out-of-range.*names 3 of 2 labels"):
        after(server, {"a": some_answer([[1.0, 0, 0]] * 2, [True, True, True, False])})


def test_a_client_learns_from_the_labels_that_are_known_alone() -> None:
    given_ = {"knowledge": "proxy", "confident-share": 0.5}
    server = server_of(**SMALL, **given_)
    first = {name: block(one, server.start(MODEL, 0), server, {}, **given_) for name, one in FLEET.items()}
    state = after(server, {name: outcome.answer.arrays for name, outcome in first.items()}, MODEL)
    assert 4 <= sum(known_of(server, state)[0]) < 8
    memory = first["client-00"].memory_if_accepted
    taught = block(FLEET["client-00"], state, server, memory, **given_)
    others = {**state.arrays, "labels": np.roll(state.arrays["labels"], 1, 1)}
    otherwise = block(FLEET["client-00"], replace(state, arrays=others), server, memory, **given_)
    assert not same_bits(taught.memory_if_accepted, otherwise.memory_if_accepted)
    nothing = {**state.arrays, "labels": np.zeros_like(state.arrays["labels"])}
    untaught = block(FLEET["client-00"], replace(state, arrays=nothing), server, memory, **given_)
    alone = block(FLEET["client-00"], state, server, memory, beta=0, **given_)
    assert same_bits(untaught.memory_if_accepted, alone.memory_if_accepted)


def known_of(server: Server, state: Any) -> tuple[list[bool], list[list[float]]]:
    """What everybody is told: which labels are known, and all of them, uniform where they are not."""
    task = server.task(state)
    assert task is not None
    return task.arrays["known"].tolist(), task.arrays["labels"].tolist()


def some_answer(rows: list[list[float]], sent: list[bool]) -> Arrays:
    return {**label_answer(rows), "sent": np.array(sent)}


def test_the_proxy_set_of_most_clients_is_the_runs_and_others_do_not_count() -> None:
    right, wrong = [[1.0, 0, 0]] * 2, [[0, 0, 1.0]] * 2
    server = proxy_server(sharpening="none")
    state = after(server, {"a": label_answer(wrong, 9), "b": label_answer(right, 1), "c": label_answer(right, 1)})
    np.testing.assert_array_equal(state.arrays["proxy_set"], [1, 1, 1, 1])
    np.testing.assert_array_equal(state.arrays["labels"], right)
    # From now on nobody needs to say which set it has; who names another one is left out.
    total = server.reducer.zero()
    for slot, answer in enumerate([label_answer(wrong, None), label_answer(wrong, 1), label_answer(right, 9)]):
        total = server.reducer.add(total, Contribution(slot, str(slot), 1, answer))
    np.testing.assert_array_equal(server.advance(state, total).arrays["labels"], wrong)
    useless = server.reducer.add(server.reducer.zero(), Contribution(0, "c", 1, label_answer(wrong, 9)))
    assert same_bits(server.advance(state, useless).arrays, state.arrays)


def test_a_client_with_another_proxy_set_or_none_refuses() -> None:
    learner = FLEET["client-00"]
    server = server_of(knowledge="proxy", **SMALL)
    state = server.start(MODEL, 0)
    outcome = block(learner, state, server, {}, knowledge="proxy")
    state = after(server, {learner.name: outcome.answer.arrays}, MODEL)
    block(learner, state, server, outcome.memory_if_accepted, knowledge="proxy")
    other = learners(3, examples=132, split="dirichlet:1")["client-00"]
    with pytest.raises(TaskRefusedError, match=r"proxy-mismatch.*not those of the others"):
        block(other, state, server, {}, knowledge="proxy")
    other.proxy = None
    with pytest.raises(TaskRefusedError, match=r"proxy-mismatch.*public examples"):
        block(other, state, server, {}, knowledge="proxy")
    large = server_of(knowledge="proxy", **{"proxy-samples": 1000})
    with pytest.raises(TaskRefusedError, match="has 10 examples; the run draws 1000"):
        block(learner, large.start(MODEL, 0), large, {}, knowledge="proxy", **{"proxy-samples": 1000})


@given(st.integers(1, 50), st.integers(0, 1 << 62), st.integers(1, 100))
def test_draws_are_different_examples_known_from_seed_and_round(size: int, seed: int, round_: int) -> None:
    found = drawn(size, size // 2, seed, round_)
    assert len(set(found.tolist())) == len(found) == size // 2
    assert all(0 <= index < size for index in found)
    np.testing.assert_array_equal(found, drawn(size, size // 2, seed, round_))
