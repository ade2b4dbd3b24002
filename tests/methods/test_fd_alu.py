"""Laws of federated distillation with accumulated local updates."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.fleet import client_of, first_model, learners, run_settings
from thinwire.codecs import Arrays, Chain, CodecError, Spec
from thinwire.edge_client.learner import Learner
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.fd_alu import FdAluSettings
from thinwire.methods.fd_alu.class_means import others_means
from thinwire.methods.fd_alu.proxy_labels import drawn
from thinwire.methods.fd_alu.sample_cache import related_samples
from thinwire.methods.fd_alu.server import Server
from thinwire.methods.fd_alu.teachers import hashes_of
from thinwire.methods.interface import EVALUATE, Bounds, Contribution, Outcome, RunFacts, Task, TaskRefusedError
from thinwire.methods.local_training import under
from thinwire.methods.payloads import same_bits
from thinwire.methods.simulation import Participant, Simulated, simulate

KINDS = ["class", "proxy", "sample"]
ALLOW = ["sample-knowledge"]
FLEET = learners(3, examples=120, split="dirichlet:1", allow=ALLOW)
MODEL = first_model(FLEET)
CLASSES = 10
# Few enough steps for tests; 120 examples leave 10 for the proxy set.
SMALL = {"batch-size": 16, "proxy-samples": 8}


def trained(
    fleet: Mapping[str, Learner] = FLEET, rounds: int = 2, given: Mapping[str, Any] | None = None, **run: Any
) -> tuple[Simulated, dict[str, Arrays]]:
    """A run, and the models that the clients have at its end."""
    settings = run_settings("fd_alu", {**SMALL, **(given or {})}, rounds=rounds, **{"cohort": len(fleet), **run})
    half = client_of("fd_alu", settings.settings)
    participants = {name: Participant(half, learner) for name, learner in fleet.items()}
    result = simulate(settings, MODEL, participants)
    return result, {name: under("model", one.memory) for name, one in participants.items()}


def equal(first: Mapping[str, Arrays], second: Mapping[str, Arrays]) -> bool:
    return all(same_bits(first[name], second[name]) for name in first)


def server_of(rounds: int = 4, clients: int = 3, **given: Any) -> Server:
    return Server(FdAluSettings.model_validate(given), RunFacts(rounds, 7, Bounds(clients)))


# -- accumulation ---------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 50))
def test_the_blocks_are_all_local_rounds_once_and_no_exchange_is_more_than_needed(rounds: int, tau: int) -> None:
    server = server_of(rounds, **{"local-rounds-per-exchange": tau})
    state = server.start({"w": np.zeros((3, 2), np.float32)}, 0)
    seen: list[int] = []
    exchanges = 0
    while (task := server.task(state)) is not None:
        seen += server.settings.local_rounds(task.round)
        exchanges += 1
        answer = {"owned": np.zeros(3, bool), "counts": np.zeros(0, np.uint32), "rows": np.zeros((0, 3), np.float32)}
        state = server.advance(state, server.reducer.add(server.reducer.zero(), Contribution(0, "c", 1, answer)))
    assert seen == list(range(1, rounds + 1))
    assert exchanges == -(-rounds // tau)


def test_one_block_is_training_alone_with_one_upload_whatever_the_knowledge() -> None:
    models = []
    for kind in KINDS:
        result, found = trained(given={"knowledge": kind, "local-rounds-per-exchange": 5}, rounds=3)
        assert [(one.round, one.kind) for one in result.exchanges] == [(3, "train"), (4, EVALUATE)]
        models.append(found)
    alone = trained(given={"beta": 0, "local-rounds-per-exchange": 3}, rounds=3)[1]
    assert all(equal(found, alone) for found in models)
    assert not equal(trained(given={"local-rounds-per-exchange": 2}, rounds=3)[1], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_without_weight_for_the_others_the_models_do_not_depend_on_tau(kind: str) -> None:
    """Bit for bit where the optimiser has no state that a block would end."""
    found = [
        trained(given={"knowledge": kind, "beta": 0, "momentum": 0, "local-rounds-per-exchange": tau}, rounds=3)
        for tau in (1, 2, 3)
    ]
    assert [len(result.exchanges) for result, _ in found] == [4, 3, 2]
    assert equal(found[0][1], found[1][1])
    assert equal(found[0][1], found[2][1])


@pytest.mark.parametrize("tau", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_one_off_bytes_and_so_many_per_exchange(kind: str, tau: int) -> None:
    """B_init + Q (U + D), under plain chains to the byte: what the arrays hold and their headers."""
    exchanges = trained(
        given={"knowledge": kind, "local-rounds-per-exchange": tau}, rounds=4, chains="plain", evaluate=False
    )[0].exchanges
    assert len(exchanges) == 4 // tau
    targets = [learner.train.targets for learner in FLEET.values() if learner.train.targets is not None]
    owned = [int((np.bincount(one.numpy(), minlength=CLASSES) >= 1).sum()) for one in targets]
    sizes = [len(one) for one in targets]
    if kind == "class":
        # Consent is given, but the default of min-count stays.
        owned = [int((np.bincount(one.numpy(), minlength=CLASSES) >= 5).sum()) for one in targets]
        up = [sum(CLASSES + k * (4 + 4 * CLASSES) + len(header([0, [1, k], [2, k]])) for k in owned)] * len(exchanges)
        down = [3 * (CLASSES * (4 + 4 * CLASSES) + 1)] * len(exchanges)
    elif kind == "proxy":
        labels = 3 * 8 * CLASSES * 4
        up = [labels + 3 * (32 + len(header(None))), *[labels + 3 * len(header([0]))] * (len(exchanges) - 1)]
        # The digest of the proxy set: zeros first, then what it is, then held.
        digest = [3 * 33, 3 * 33, *[0] * len(exchanges)]
        down = [labels + 3 + digest[index] for index in range(len(exchanges))]
    else:
        sizes = [int(np.isin(t.numpy(), np.flatnonzero(np.bincount(t.numpy()) >= 5)).sum()) for t in targets]
        first = sum(n * (4 * CLASSES + 64 + 2) + len(header([[0, n], [1, n], [2, n]])) for n in sizes)
        later = sum(n * 4 * CLASSES + len(header([[0, n]])) for n in sizes)
        up = [first, *[later] * (len(exchanges) - 1)]
        down = [0, *[sum(n + n * 4 * CLASSES + 1 for n in sizes)] * (len(exchanges) - 1)]
    assert [one.uplink_bytes for one in exchanges] == up
    assert [one.downlink_bytes for one in exchanges] == down


def header(value: Any) -> bytes:
    """Of a container."""
    import msgpack

    packed: bytes = msgpack.packb(value)
    return packed


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_alone_and_three_architectures_in_one_run(kind: str) -> None:
    alone, _ = trained({"client-00": FLEET["client-00"]}, given={"knowledge": kind})
    assert 0 <= alone.exchanges[-1].mean("accuracy") <= 1
    mixed = {
        name: learners(3, examples=120, architecture=architecture, allow=ALLOW)[name]
        for name, architecture in zip(FLEET, ("mlp", "digits_convnet", "emnist_convnet"), strict=True)
    }
    result, models = trained(mixed, given={"knowledge": kind, "batch-size": 32})
    assert result.model is None
    assert len({Spec.of(model) for model in models.values()}) == 3
    assert all({"accuracy", "personal_accuracy"} <= set(one) for one in result.exchanges[-1].metrics.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_answers_changes_no_bit(kind: str) -> None:
    run = run_settings("fd_alu", {**SMALL, "knowledge": kind})
    half = client_of("fd_alu", run.settings)
    server = server_of(2, **run.settings)
    state = server.start(MODEL, 0)
    for _ in range(2):
        task = server.task(state)
        assert task is not None
        answers = []
        for slot, (name, learner) in enumerate(FLEET.items()):
            private = server.private(state, task, name)
            parts = {**task.parts, **({} if private is None else {"private": private})}
            learner.prepare(slot, reply=task.reply)
            outcome = half.perform(Task(task.round, 0, task.kind, parts, task.reply, options=task.options), {}, learner)
            answers.append(Contribution(slot, name, 1, outcome.answer.arrays))
        states = []
        for order in (answers, answers[::-1]):
            total = server.reducer.zero()
            for answer in order:
                server.reducer.check(answer)
                total = server.reducer.add(total, answer)
            states.append(server.advance(state, total))
        halves = [server.reducer.add(server.reducer.zero(), answer) for answer in answers]
        tree = server.reducer.merge(halves[2], server.reducer.merge(halves[1], halves[0]))
        states.append(server.advance(state, tree))
        assert len({pack_state(one) for one in states}) == 1
        state = states[0]
    assert server.task(state) is None


# -- knowledge per class --------------------------------------------------------------------------------------


def class_answer(owned: Mapping[int, tuple[int, list[float]]], classes: int = 3) -> Arrays:
    """By class: how many, and their mean scores."""
    return {
        "owned": np.isin(np.arange(classes), list(owned)),
        "counts": np.array([owned[label][0] for label in sorted(owned)], np.uint32),
        "rows": np.array([owned[label][1] for label in sorted(owned)], np.float32).reshape(-1, classes),
    }


def after(server: Server, answers: Mapping[str, Arrays], model: Arrays | None = None) -> Any:
    """The state behind the first exchange."""
    state = server.start(model or {"w": np.zeros((3, 2), np.float32)}, 0)
    total = server.reducer.zero()
    for slot, (name, arrays) in enumerate(answers.items()):
        contribution = Contribution(slot, name, 1, arrays)
        server.reducer.check(contribution)
        total = server.reducer.add(total, contribution)
    return server.advance(state, total)


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


def block(learner: Learner, state: Any, server: Server, memory: Arrays, uplink: str = "", **given: Any) -> Outcome:
    """What a client makes of the exchange that comes next."""
    task = server.task(state)
    assert task is not None
    private = server.private(state, task, learner.name)
    parts = {**task.parts, **({} if private is None else {"private": private})}
    learner.prepare(3, reply=task.reply, uplink=Chain.parse(uplink))
    half = client_of("fd_alu", {**SMALL, **given})
    return half.perform(Task(task.round, 0, task.kind, parts, task.reply, options=task.options), memory, learner)


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
    assert silent.train.targets is not None
    counts = np.bincount(silent.train.targets.numpy(), minlength=CLASSES)
    assert 0 < counts[counts > 0].min() < 5 <= counts.max()
    for learner, least, expected in ((silent, 1, 5), (silent, 8, 8), (open_, 1, 1), (open_, 5, 5)):
        server = server_of()
        outcome = block(learner, server.start(MODEL, 0), server, {}, **{"min-count": least})
        np.testing.assert_array_equal(outcome.answer.arrays["owned"], counts >= expected)
        np.testing.assert_array_equal(outcome.answer.arrays["counts"], counts[counts >= expected])


# -- knowledge on a proxy set ---------------------------------------------------------------------------------


def label_answer(rows: list[list[float]], proxy_set: int | None = 1) -> Arrays:
    found: dict[str, Any] = {"labels": np.array(rows, np.float32)}
    return found if proxy_set is None else {**found, "set": np.full(4, proxy_set, np.uint64)}


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


# -- knowledge per example ------------------------------------------------------------------------------------


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


def sample_answer(hashes: list[list[int]], labels: list[int], scores: list[list[float]]) -> Arrays:
    return {
        "hashes": np.array(hashes, np.int8),
        "labels": np.array(labels, np.uint16),
        "logits": np.array(scores, np.float32),
    }


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


def test_knowledge_of_single_examples_needs_consent_and_enough_of_a_class() -> None:
    silent = learners(3, examples=120, split="dirichlet:1")["client-00"]
    server = server_of(knowledge="sample", **SMALL)
    with pytest.raises(TaskRefusedError, match=r"consent-missing.*--allow sample-knowledge"):
        block(silent, server.start(MODEL, 0), server, {}, knowledge="sample")
    learner = FLEET["client-00"]
    assert learner.train.targets is not None
    counts = np.bincount(learner.train.targets.numpy(), minlength=CLASSES)
    answer = block(learner, server.start(MODEL, 0), server, {}, knowledge="sample").answer.arrays
    np.testing.assert_array_equal(np.bincount(answer["labels"], minlength=CLASSES), np.where(counts >= 5, counts, 0))
    assert 0 < len(answer["labels"]) < len(learner.train)


def test_similar_inputs_have_similar_hashes() -> None:
    learner = FLEET["client-00"]
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 1, 8, 8, generator=random)
    nearby = inputs + 0.05 * torch.randn(40, 1, 8, 8, generator=random)
    hashes = hashes_of(learner, torch.cat([inputs, nearby]), 64, 5)
    assert hashes.dtype == np.int8
    assert np.abs(hashes.astype(int)).max() == 127
    found = related_samples(hashes, np.zeros(80, np.uint16), 1)[:, 0]
    np.testing.assert_array_equal(found, np.roll(np.arange(80), 40))
    np.testing.assert_array_equal(hashes[:40], hashes_of(learner, inputs, 64, 5))


def test_a_users_encoder_takes_the_place_of_the_projection() -> None:
    learner = learners(3, examples=120)["client-00"]
    learner.encode = lambda inputs: inputs.flatten(1)[:, 30:32]
    inputs = torch.zeros(3, 1, 8, 8)
    inputs.view(3, -1)[:, 30:32] = torch.tensor([[0.5, -1.0], [0.0, 0.0], [4.0, 2.0]])
    np.testing.assert_array_equal(hashes_of(learner, inputs, 2, 5), [[64, -127], [0, 0], [127, 64]])
    with pytest.raises(TaskRefusedError, match="hash-dims 64"):
        hashes_of(learner, inputs, 64, 5)


# -- what is refused ------------------------------------------------------------------------------------------

ROWS = class_answer({0: (10, [4.0, 0.0, 0.0]), 1: (5, [0.0, 2.0, 1.0])})
SAMPLES = sample_answer([[9, 0], [0, 9]], [0, 1], [[6, 0, 0], [0, 3, 0]])


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("class", {**ROWS, "rows": ROWS["rows"][:1]}),
        ("class", {**ROWS, "counts": np.array([10, 0], np.uint32)}),
        ("class", {**ROWS, "counts": np.array([10, 1 << 17], np.uint32)}),
        ("class", {**ROWS, "rows": np.full((2, 3), np.nan, np.float32)}),
        ("class", {**ROWS, "rows": np.full((2, 3), 2000, np.float32)}),
        ("proxy", label_answer([[1.0, -0.5, 0.5]] * 2)),
        ("proxy", label_answer([[0.5, 0.5, 0.5]] * 2)),
        ("proxy", label_answer([[np.nan, 0.5, 0.5]] * 2)),
        ("sample", {**SAMPLES, "labels": np.array([0, 3], np.uint16)}),
        ("sample", {**SAMPLES, "hashes": SAMPLES["hashes"][:1]}),
        ("sample", {name: array for name, array in SAMPLES.items() if name != "labels"}),
        ("sample", {**SAMPLES, "logits": np.full((2, 3), np.inf, np.float32)}),
    ],
)
def test_answers_that_would_spoil_the_sum_are_refused(kind: str, answer: Arrays) -> None:
    server = server_of(knowledge=kind, **{"proxy-samples": 2})
    with pytest.raises(CodecError, match=r"does-not-fit|out-of-range"):
        server.reducer.check(Contribution(0, "c", 1, answer))


def test_models_and_examples_that_are_no_classification_are_refused() -> None:
    with pytest.raises(CodecError, match="set classes"):
        server_of().start({"w": np.zeros((1, 4), np.float32)}, 0)
    assert len(server_of(classes=4).start({"w": np.zeros((1, 4), np.float32)}, 0).arrays["numbers"]) == 4
    server = server_of(classes=7)
    with pytest.raises(TaskRefusedError, match=r"model-mismatch.*7 classes"):
        block(FLEET["client-00"], server.start(MODEL, 0), server, {})


# -- what it is for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_clients_learn_their_own_classes_and_the_two_accuracies_are_different_figures(kind: str) -> None:
    fleet = learners(3, examples=360, split="classes:4", allow=ALLOW)
    given_ = {"knowledge": kind, "batch-size": 8, "local-rounds-per-exchange": 3}
    last = trained(fleet, 6, given_)[0].exchanges[-1]
    assert np.mean([one["personal_accuracy"] for one in last.metrics.values()]) > 0.7
    # Nobody's four classes are all ten.
    assert last.mean("accuracy") < 0.65
