"""Laws of federated distillation with accumulated local updates."""

from __future__ import annotations

from typing import Any

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
    block,
    class_answer,
    equal,
    label_answer,
    sample_answer,
    server_of,
    trained,
)
from tests.methods.fleet import client_of, learners, run_settings
from thinwire.codecs import Arrays, CodecError, Spec
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.values import EVALUATE, Contribution, Task, TaskRefusedError


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
    targets = [learner.train.targets() for learner in FLEET.values()]
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


@pytest.mark.parametrize("kind", KINDS)
def test_clients_learn_their_own_classes_and_the_two_accuracies_are_different_figures(kind: str) -> None:
    fleet = learners(3, examples=360, split="classes:4", allow=ALLOW)
    given_ = {"knowledge": kind, "batch-size": 8, "local-rounds-per-exchange": 3}
    last = trained(fleet, 6, given_)[0].exchanges[-1]
    assert np.mean([one["personal_accuracy"] for one in last.metrics.values()]) > 0.7
    # Nobody's four classes are all ten.
    assert last.mean("accuracy") < 0.65
