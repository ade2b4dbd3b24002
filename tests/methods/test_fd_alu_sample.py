"""Laws of knowledge per example: related examples, the cache, consent."""

from __future__ import annotations

from fractions import Fraction

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
    sample_answer,
    server_of,
)
from tests.methods.fleet import learners
from thinwire.codecs import Arrays
from thinwire.methods.arrays import same_bits
from thinwire.methods.fd_alu.sample_cache import related_samples
from thinwire.methods.fd_alu.teachers import hashes_of
from thinwire.methods.samples import TensorSamples
from thinwire.methods.values import Contribution, TaskRefusedError


@given(st.data())
def test_related_examples_are_the_nearest_of_the_class(data: st.DataObject) -> None:
    """Against a search by hand in exact fractions; small numbers make ties."""
    count, wanted = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    rows = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
    hashes = np.array(data.draw(st.lists(rows, min_size=count, max_size=count)), np.int8)
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)), np.uint16)
    found = related_samples(hashes, labels, wanted)
    whole = hashes.astype(int)
    for row in range(count):
        others = [other for other in range(count) if other != row and labels[other] == labels[row]]

        def similarity(other: int, row: int = row) -> Fraction:
            product = int(whole[row] @ whole[other])
            return Fraction(product * abs(product), max(1, int(whole[other] @ whole[other])))

        nearest = sorted(others, key=lambda other: (-similarity(other), other))[:wanted]
        assert found[row].tolist() == nearest + [-1] * (wanted - len(nearest))


def test_a_client_receives_the_mean_scores_of_related_examples_fewer_than_wanted_included() -> None:
    server = server_of(knowledge="sample", **{"related": 2, "hash-dims": 2})
    answers = {
        "a": sample_answer([[9, 0], [0, 9]], [0, 1], [[6, 0, 0], [0, 3, 0]]),
        "b": sample_answer([[9, 1], [8, 4], [1, 9]], [0, 0, 2], [[2, 0, 0], [4, 4, 0], [0, 0, 5]]),
    }
    state = after(server, answers)
    task = server.task(state)
    assert task is not None
    mine, theirs = server.private(state, task, "a"), server.private(state, task, "b")
    assert mine is not None
    assert theirs is not None
    # Both of b's zeros; nobody else has a one.
    np.testing.assert_array_equal(mine["known"], [True, False])
    np.testing.assert_array_equal(mine["logits"], [[3, 2, 0]])
    # Other examples of one's own may be related, the example itself is not.
    np.testing.assert_array_equal(theirs["known"], [True, True, False])
    np.testing.assert_array_equal(theirs["logits"], [[5, 2, 0], [4, 0, 0]])
    assert server.private(state, task, "c") is None


def test_the_cache_keeps_the_latest_scores_and_takes_no_answer_that_does_not_fit() -> None:
    server = server_of(knowledge="sample", **{"related": 2, "hash-dims": 2})
    state = after(server, {"a": sample_answer([[9, 0], [8, 0]], [0, 0], [[6, 0, 0], [2, 0, 0]])})
    total = server.reducer.zero()
    for slot, (name, answer) in enumerate(
        {
            "a": {"logits": np.array([[7, 0, 0], [1, 0, 0]], np.float32)},
            "b": {"logits": np.array([[9, 9, 9]], np.float32)},
            "c": sample_answer([[1, 0]], [0], [[5, 0, 0]]),
        }.items()
    ):
        total = server.reducer.add(total, Contribution(slot, name, 1, answer))
    found = server.advance(state, total)
    np.testing.assert_array_equal(found.arrays["logits"][:, 0], [7, 1, 5])
    assert bytes(found.arrays["names"]) == b"a\nc"
    short = server.reducer.add(server.reducer.zero(), Contribution(0, "a", 1, {"logits": np.ones((1, 3), np.float32)}))
    assert same_bits(server.advance(found, short).arrays, found.arrays)


def test_a_client_whose_examples_are_others_by_now_has_no_teacher_and_is_known_anew() -> None:
    """Fewer, or as many; until an answer with the new ones counts."""
    server = server_of(knowledge="sample", **SMALL)
    fleet = learners(3, examples=120, split="dirichlet:1", allow=["sample-knowledge"])
    state, memory = server.start(MODEL, 0), dict[str, Arrays]()
    total = server.reducer.zero()
    for slot, (name, learner) in enumerate(fleet.items()):
        outcome = block(learner, state, server, {}, knowledge="sample")
        memory[name] = outcome.memory_if_accepted
        total = server.reducer.add(total, Contribution(slot, name, 1, outcome.answer.arrays))
    state = server.advance(state, total)
    learner, name = fleet["client-00"], "client-00"
    again = block(learner, state, server, memory[name], knowledge="sample")
    assert set(again.answer.arrays) == {"logits"}
    refused = block(learner, state, server, again.memory_if_refused, knowledge="sample")
    assert set(refused.answer.arrays) == {"logits"}
    train = learner.train
    assert isinstance(train, TensorSamples)
    assert isinstance(train.inputs, torch.Tensor)
    assert train.labels is not None
    learner.train = TensorSamples(train.inputs + 1, train.labels)
    other = block(learner, state, server, memory[name], knowledge="sample")
    assert set(other.answer.arrays) == {"logits", "hashes", "labels"}
    later = block(learner, state, server, other.memory_if_refused, knowledge="sample")
    assert set(later.answer.arrays) == {"logits", "hashes", "labels"}
    state = server.advance(
        state, server.reducer.add(server.reducer.zero(), Contribution(0, name, 1, other.answer.arrays))
    )
    assert bytes(state.arrays["names"]).decode().split("\n")[-1] == name
    fewer = block(learner, state, server, other.memory_if_accepted, knowledge="sample")
    assert set(fewer.answer.arrays) == {"logits"}


def test_a_client_that_sends_its_hashes_again_takes_its_own_place() -> None:
    server = server_of(knowledge="sample", **{"related": 2, "hash-dims": 2})
    a = sample_answer([[9, 0], [0, 9]], [0, 1], [[6, 0, 0], [0, 3, 0]])
    b = sample_answer([[9, 1]], [0], [[2, 0, 0]])
    other = sample_answer([[1, 9], [9, 9], [8, 1]], [1, 2, 0], [[1, 0, 0], [2, 0, 0], [3, 0, 0]])
    state = after(server, {"a": a, "b": b, "c": a})
    changed = server.advance(state, server.reducer.add(server.reducer.zero(), Contribution(0, "a", 1, other)))
    expected = after(server, {"b": b, "c": a})
    expected = server.advance(expected, server.reducer.add(server.reducer.zero(), Contribution(0, "a", 1, other)))
    assert same_bits(changed.arrays, expected.arrays)


def test_knowledge_of_single_examples_needs_consent_and_enough_of_a_class() -> None:
    silent = learners(3, examples=120, split="dirichlet:1")["client-00"]
    server = server_of(knowledge="sample", **SMALL)
    with pytest.raises(TaskRefusedError, match=r"consent-missing.*--allow sample-knowledge"):
        block(silent, server.start(MODEL, 0), server, {}, knowledge="sample")
    learner = FLEET["client-00"]
    counts = np.bincount(learner.train.targets().numpy(), minlength=CLASSES)
    answer = block(learner, server.start(MODEL, 0), server, {}, knowledge="sample").answer.arrays
    np.testing.assert_array_equal(np.bincount(answer["labels"], minlength=CLASSES), np.where(counts >= 5, counts, 0))
    assert 0 < len(answer["labels"]) < len(learner.train)


def test_similar_inputs_have_similar_hashes() -> None:
    learner = FLEET["client-00"]
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 1, 8, 8, generator=random)
    nearby = inputs + 0.05 * torch.randn(40, 1, 8, 8, generator=random)
    hashes = hashes_of(learner, TensorSamples(torch.cat([inputs, nearby])), 64, 5)
    assert hashes.dtype == np.int8
    assert np.abs(hashes.astype(int)).max() == 127
    found = related_samples(hashes, np.zeros(80, np.uint16), 1)[:, 0]
    np.testing.assert_array_equal(found, np.roll(np.arange(80), 40))
    np.testing.assert_array_equal(hashes[:40], hashes_of(learner, TensorSamples(inputs), 64, 5))


def test_a_users_encoder_takes_the_place_of_the_projection() -> None:
    learner = learners(3, examples=120)["client-00"]
    learner.encode = lambda inputs: inputs.flatten(1)[:, 30:32]
    inputs = torch.zeros(3, 1, 8, 8)
    inputs.view(3, -1)[:, 30:32] = torch.tensor([[0.5, -1.0], [0.0, 0.0], [4.0, 2.0]])
    np.testing.assert_array_equal(hashes_of(learner, TensorSamples(inputs), 2, 5), [[64, -127], [0, 0], [127, 64]])
    with pytest.raises(TaskRefusedError, match="hash-dims 64"):
        hashes_of(learner, TensorSamples(inputs), 64, 5)
