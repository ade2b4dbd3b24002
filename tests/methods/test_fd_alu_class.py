"""Laws of knowledge per class: weights, one's own part, small classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.fd_alu_runs import (
    ALLOW,
    CLASSES,
    FLEET,
    KINDS,
    MODEL,
    SMALL,
    after,
    block,
    class_answer,
    server_of,
)
from tests.methods.fleet import learners, run_settings
from thinwire.codecs import Arrays, Chain, Spec
from thinwire.methods.arrays import same_bits, under
from thinwire.methods.definition import define
from thinwire.methods.fd_alu.class_means import others_means
from thinwire.protocol.reasons import ProblemError


def test_means_are_weighted_by_counts_and_leave_out_ones_own_part() -> None:
    first = class_answer({0: (10, [4.0, 0.0, 0.0]), 1: (5, [0.0, 2.0, 1.0])})
    second = class_answer({0: (30, [0.0, 0.0, 8.0])})
    state = after(server_of(), {"a": first, "b": second})
    means, numbers = state.arrays["means"], state.arrays["numbers"]
    np.testing.assert_array_equal(means, [[1, 0, 6], [0, 2, 1], [0, 0, 0]])
    np.testing.assert_array_equal(numbers, [40, 5, 0])
    for own, expected, known in (
        (first, [[0, 0, 8], [0, 0, 0], [0, 0, 0]], [True, False, False]),
        (second, [[4, 0, 0], [0, 2, 1], [0, 0, 0]], [True, True, False]),
        (None, [[1, 0, 6], [0, 2, 1], [0, 0, 0]], [True, True, False]),
    ):
        found, there = others_means(means, numbers, own)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_array_equal(there, known)


scores = st.floats(-16, 16, width=16)
class_answers = st.dictionaries(
    st.integers(0, 2), st.tuples(st.integers(1, 500), st.lists(scores, min_size=3, max_size=3)), max_size=3
).map(class_answer)


@given(st.lists(class_answers, min_size=2, max_size=4))
def test_what_is_left_is_the_mean_over_the_others(answers: list[Arrays]) -> None:
    """Within the rounding of the broadcast times (all examples) / (theirs), as if one's own answer had not been."""
    named = {f"c{index}": answer for index, answer in enumerate(answers)}
    state = after(server_of(), named)
    chain = Chain.parse("cast(f16)")
    parts = {"means": state.arrays["means"], "numbers": state.arrays["numbers"]}
    received = chain.decode(chain.encode(parts, Spec.of(parts)), Spec.of(parts))
    others = dict(list(named.items())[1:])
    expected = after(server_of(), others).arrays
    found, known = others_means(received["means"], received["numbers"], answers[0])
    everything, theirs = state.arrays["numbers"].astype(float), expected["numbers"].astype(float)
    np.testing.assert_array_equal(known, (theirs >= 1) & (theirs * 100 >= everything))
    for label in np.flatnonzero(known):
        bound = everything[label] / theirs[label] * 16 * 2.0**-11 + 1e-4
        np.testing.assert_allclose(found[label], expected["means"][label], rtol=0, atol=bound)


def test_a_class_that_nobody_else_owns_adds_no_term() -> None:
    """Alone in the run, a client whose answer counted trains as without knowledge, under a coarse uplink too."""
    learner, server = FLEET["client-00"], server_of()
    for uplink in ("", "cast(bf16)"):
        state = server.start(MODEL, 0)
        outcome = block(learner, state, server, {}, uplink)
        answer = learner.decoded(outcome.answer.arrays)
        state = after(server, {learner.name: answer}, MODEL)
        memory = outcome.memory_if_accepted
        found = block(learner, state, server, memory, uplink)
        alone = block(learner, state, server, memory, uplink, beta=0)
        assert state.arrays["numbers"].any()
        assert same_bits(found.memory_if_refused, alone.memory_if_refused)
        # Not counted, it is not there to be subtracted: what was broadcast is knowledge of others.
        refused = block(learner, state, server, outcome.memory_if_refused, uplink)
        assert not same_bits(refused.memory_if_refused, alone.memory_if_refused)


def test_only_an_answer_to_the_very_exchange_before_is_subtracted() -> None:
    learner, server = FLEET["client-01"], server_of()
    outcome = block(learner, server.start(MODEL, 0), server, {})
    state = after(server, {learner.name: outcome.answer.arrays}, MODEL)
    later = type(state)(state.round + 1, 0, state.arrays)
    memory = outcome.memory_if_accepted
    alone = block(learner, later, server, memory, beta=0).memory_if_refused
    assert not same_bits(block(learner, later, server, memory).memory_if_refused, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_a_late_or_refused_answer_keeps_the_model_and_nothing_else(kind: str) -> None:
    learner, server = FLEET["client-02"], server_of(knowledge=kind, **SMALL)
    outcome = block(learner, server.start(MODEL, 0), server, {}, knowledge=kind)
    kept = under("model", outcome.memory_if_refused)
    assert same_bits(kept, under("model", outcome.memory_if_accepted))
    assert same_bits(kept, learner.arrays())
    assert not same_bits(kept, learner.first_arrays())
    assert not under("own", outcome.memory_if_refused)


def test_small_classes_leave_a_client_with_consent_only() -> None:
    silent, open_ = (learners(3, examples=120, split="dirichlet:1", allow=allow)["client-00"] for allow in ([], ALLOW))
    counts = np.bincount(silent.train.targets().numpy(), minlength=CLASSES)
    assert 0 < counts[counts > 0].min() < 5 <= counts.max()
    for learner, least, expected in ((silent, 1, 5), (silent, 8, 8), (open_, 1, 1), (open_, 5, 5)):
        server = server_of()
        outcome = block(learner, server.start(MODEL, 0), server, {}, **{"min-count": least})
        np.testing.assert_array_equal(outcome.answer.arrays["owned"], counts >= expected)
        np.testing.assert_array_equal(outcome.answer.arrays["counts"], counts[counts >= expected])


def test_more_classes_than_anybody_would_store_are_refused_with_their_size() -> None:
    def start(classes: int) -> None:
        run = run_settings("fd_alu", {"classes": classes})
        define("run", run).first_state(MODEL)

    with pytest.raises(ProblemError, match=r"run-invalid.*20000 x 20000 numbers, 1.60 GB.*knowledge=proxy"):
        start(20_000)
    start(1000)
