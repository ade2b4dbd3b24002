"""What every method promises, whoever wrote it: the suite runs over all folders of methods, and the toy's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.methods.conftest import whole_methods
from tests.methods.fleet import client_of, first_model, learners, run_settings, simulated
from thinwire.codecs import Array, Arrays, Chain, Spec
from thinwire.edge_client.learner import Learner
from thinwire.methods.arrays import same_bits
from thinwire.methods.checkpoint import pack_state, unpack_state
from thinwire.methods.definition import define
from thinwire.methods.payloads import decoded_answer, merge_parts
from thinwire.methods.registry import find_method
from thinwire.methods.simulation import Participant, Simulated, simulate
from thinwire.methods.values import EVALUATE, Contribution, Outcome, State, Task
from thinwire.protocol.identity import client_seed
from thinwire.protocol.settings import RunSettings

each_method = pytest.mark.parametrize("method_id", whole_methods())
each_chains = pytest.mark.parametrize("chains", ["default", "plain"])


@dataclass(frozen=True)
class Seen:
    """One task as one client saw it, and what became of it."""

    client: str
    task: Task
    memory: Arrays
    prepared: Mapping[str, Any]
    outcome: Outcome


class Recorder:
    """A learner and half that write down what they are given."""

    def __init__(self, learner: Learner, half: Any, seen: list[Seen]) -> None:
        self._learner, self._half, self._seen = learner, half, seen
        self._prepared: dict[str, Any] = {}

    def prepare(self, seed: int, **known: Any) -> None:
        self._prepared = {"seed": seed, **known}
        self._learner.prepare(seed, **known)

    def encoded(self, answer: Arrays) -> bytes:
        return self._learner.encoded(answer)

    def needs(self) -> frozenset[Any]:
        return frozenset()

    def check(self, task: Task, _: Any) -> None:
        self._half.check(task, self._learner)

    def perform(self, task: Task, memory: Arrays, _: Any) -> Outcome:
        outcome: Outcome = self._half.perform(task, memory, self._learner)
        self._seen.append(Seen(self._learner.name, task, copied(memory), self._prepared, outcome))
        return outcome


@dataclass(frozen=True)
class Course:
    """A run of two rounds with three clients, and everything its clients saw."""

    run: RunSettings
    fleet: Mapping[str, Learner]
    first: Arrays
    result: Simulated
    seen: Sequence[Seen]

    @property
    def exchanges(self) -> list[list[Seen]]:
        """The answers of each exchange that are summed, in the order of the cohort."""
        grouped: dict[tuple[int, int], list[Seen]] = {}
        for one in self.seen:
            if one.task.kind != EVALUATE:
                grouped.setdefault((one.task.round, one.task.step), []).append(one)
        return list(grouped.values())


def copied(arrays: Arrays) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}


@cache
def course(method_id: str, chains: str) -> Course:
    run = run_settings(method_id, chains=chains, seed=5)
    fleet = learners(split="dirichlet:1")
    first = first_model(fleet)
    seen: list[Seen] = []
    half = client_of(method_id)
    recorders = {name: Recorder(learner, half, seen) for name, learner in fleet.items()}
    participants: dict[str, Any] = {name: Participant(one, one) for name, one in recorders.items()}  # type: ignore[arg-type]
    return Course(run, fleet, first, simulate(run, first, participants), seen)


def contributions(at: Course, answers: Sequence[Seen]) -> list[Contribution]:
    """As the server decodes them."""
    definition = define("run", at.run)
    found = []
    for slot, one in enumerate(answers):
        chains = definition.chains(one.task.kind)
        seed = client_seed(at.run.seed, one.task.round, one.task.step, one.client)
        reference = merge_parts(one.task.parts)
        arrays = decoded_answer(one.outcome.answer, one.task.reply, chains.up, reference=reference, seed=seed)
        found.append(Contribution(slot, one.client, one.outcome.answer.examples, arrays, one.outcome.answer.metrics))
    return found


def summed(reducer: Any, answers: Sequence[Contribution]) -> Any:
    total = reducer.zero()
    for answer in answers:
        total = reducer.add(total, answer)
    return total


def replayed(at: Course, sum_up: Callable[[Any, list[Contribution]], Any], pack: bool = False) -> State:
    """The final state of the same answers, summed in another way."""
    server = define("run", at.run).server
    state = server.start(at.first, at.run.seed)
    for answers in at.exchanges:
        total = sum_up(server.reducer, contributions(at, answers))
        state = server.advance(unpack_state(pack_state(state)) if pack else state, total)
    return state


@each_method
@each_chains
def test_the_order_of_arrival_changes_no_bit(method_id: str, chains: str) -> None:
    at = course(method_id, chains)
    expected = pack_state(at.result.state)

    def backwards(reducer: Any, answers: list[Contribution]) -> Any:
        return summed(reducer, answers[::-1])

    def as_a_tree(reducer: Any, answers: list[Contribution]) -> Any:
        totals = [summed(reducer, [answer]) for answer in answers] + [reducer.zero()]
        while len(totals) > 1:
            totals = [*totals[2:], reducer.merge(totals[1], totals[0])]
        return totals[0]

    assert pack_state(replayed(at, summed)) == expected
    assert pack_state(replayed(at, backwards)) == expected
    assert pack_state(replayed(at, as_a_tree)) == expected


@each_method
def test_a_state_through_pack_and_unpack_changes_nothing(method_id: str) -> None:
    at = course(method_id, "default")
    assert pack_state(replayed(at, summed, pack=True)) == pack_state(at.result.state)
    server = define("run", at.run).server
    state = server.start(at.first, at.run.seed)
    again = unpack_state(pack_state(state))
    assert (again.round, again.step) == (state.round, state.step)
    assert same_bits(again.arrays, state.arrays)
    same_task(server.task(state), server.task(again))


def same_task(first: Task | None, second: Task | None) -> None:
    assert first is not None
    assert second is not None
    assert (first.kind, first.cohort, dict(first.options), first.reply) == (
        second.kind, second.cohort, dict(second.options), second.reply,
    )  # fmt: skip
    assert list(first.parts) == list(second.parts)
    assert all(same_bits(first.parts[name], second.parts[name]) for name in first.parts)


@each_method
def test_a_server_half_is_pure(method_id: str) -> None:
    at = course(method_id, "default")
    server, other = define("run", at.run).server, define("run", at.run).server
    state = server.start(copied(at.first), at.run.seed)
    before = pack_state(state)
    same_task(server.task(state), server.task(state))
    total = summed(server.reducer, contributions(at, at.exchanges[0]))
    once = pack_state(server.advance(state, total))
    assert pack_state(state) == before
    assert once == pack_state(other.advance(state, summed(other.reducer, contributions(at, at.exchanges[0]))))


@each_method
@each_chains
def test_performing_twice_gives_the_same_outcome(method_id: str, chains: str) -> None:
    at = course(method_id, chains)
    half = client_of(method_id)
    for one in at.seen:
        learner = at.fleet[one.client]
        learner.prepare(**one.prepared)
        again = half.perform(one.task, one.memory, learner)
        assert same_bits(again.answer.arrays, one.outcome.answer.arrays), one.task.kind
        assert same_bits(again.memory_if_accepted, one.outcome.memory_if_accepted)
        assert same_bits(again.memory_if_refused, one.outcome.memory_if_refused)
        assert again.answer.examples == one.outcome.answer.examples
        assert dict(again.answer.metrics) == dict(one.outcome.answer.metrics)


@each_method
def test_a_client_whose_answer_was_refused_can_answer_again_and_go_on(method_id: str) -> None:
    at = course(method_id, "default")
    half = client_of(method_id)
    for answers in at.exchanges:
        one = answers[0]
        learner = at.fleet[one.client]
        learner.prepare(**one.prepared)
        again = half.perform(one.task, one.outcome.memory_if_refused, learner)
        one.task.reply.check(again.answer.arrays)
        # A second refusal changes nothing more.
        learner.prepare(**one.prepared)
        thrice = half.perform(one.task, again.memory_if_refused, learner)
        one.task.reply.check(thrice.answer.arrays)
        Spec.of(thrice.memory_if_refused)


@each_method
@each_chains
def test_answers_obey_the_reply_and_the_limits_of_the_wire(method_id: str, chains: str) -> None:
    at = course(method_id, chains)
    for one in at.seen:
        answer = one.outcome.answer
        one.task.reply.check(answer.arrays)
        assert all(np.isfinite(a).all() for a in answer.arrays.values() if a.dtype.kind == "f")
        assert 1 <= answer.examples <= len(at.fleet[one.client].train)
        assert len(answer.metrics) <= 11  # and the seconds that the client adds
        assert all(re.fullmatch("[a-z][a-z0-9_]{0,31}", name) for name in answer.metrics)
        assert all(math.isfinite(value) for value in answer.metrics.values())
        names = [name for part in one.task.parts.values() for name in part]
        assert len(set(names)) == len(names)
        for memory in (one.outcome.memory_if_accepted, one.outcome.memory_if_refused):
            Spec.of(memory)
    steps = [(one.task.round, one.task.step) for one in at.seen]
    assert steps == sorted(steps)
    assert all(round_ >= 1 and step >= 0 for round_, step in steps)


@each_method
@pytest.mark.parametrize("alone", [["client-00"], ["client-02"], ["client-01", "client-02"]])
def test_any_clients_but_none_are_enough(method_id: str, alone: list[str]) -> None:
    at = course(method_id, "default")
    run = run_settings(method_id, seed=5, quorum=1)
    everybody = sorted(at.fleet)
    sets = [alone if exchanged.round == 1 else everybody for exchanged in at.result.exchanges]
    result = simulated(run, at.fleet, at.first, contributors=sets)
    assert [exchanged.contributors for exchanged in result.exchanges] == sets
    assert not any(exchanged.given_up for exchanged in result.exchanges)


@each_method
@each_chains
def test_a_run_ends_after_its_rounds_with_a_model_that_can_be_measured(method_id: str, chains: str) -> None:
    at = course(method_id, chains)
    server = define("run", at.run).server
    assert server.task(at.result.state) is None
    counted = [exchanged for exchanged in at.result.exchanges if exchanged.kind != EVALUATE]
    assert max(exchanged.round for exchanged in counted) == at.run.rounds
    if at.result.model is None:
        assert not find_method(method_id).shared_model
    else:
        assert all(np.isfinite(a).all() for a in at.result.model.values() if a.dtype.kind == "f")
        assert at.result.exchanges[-1].kind == EVALUATE
        assert 0 <= at.result.exchanges[-1].mean("accuracy") <= 1
        assert at.result.exchanges[-1].uplink_bytes == 0


@each_method
def test_the_same_seed_and_contributors_give_the_same_bits(method_id: str) -> None:
    at = course(method_id, "default")
    sets = [exchanged.contributors for exchanged in at.result.exchanges]
    again = simulated(at.run, at.fleet, at.first, contributors=sets)
    assert pack_state(again.state) == pack_state(at.result.state)
    assert [(e.uplink_bytes, e.downlink_bytes) for e in again.exchanges] == [
        (e.uplink_bytes, e.downlink_bytes) for e in at.result.exchanges
    ]


@each_method
def test_settings_and_chains_survive_a_plan(method_id: str) -> None:
    method = find_method(method_id)
    settings = method.settings()
    assert method.settings.model_validate(settings.model_dump(mode="json", by_alias=True)) == settings
    assert method.title
    assert method.source
    chains = method.chains(settings)
    for kind in chains:
        resolved = define("run", run_settings(method_id)).chains(kind)
        for chain in (resolved.down, resolved.up, resolved.full, resolved.private):
            assert Chain.from_plain(chain.to_plain()) == chain
            assert Chain.parse(str(chain)) == chain
        assert resolved.full.lossless
    at = course(method_id, "default")
    assert {one.task.kind for one in at.seen} - {EVALUATE} <= set(chains)
