"""A run in one process: the same halves, payloads, seeds and sums as over the service, without the service.

A run is a function of its settings, its seed and the list of its contributor sets: with the sets that a service's run
had, `simulate` ends in the bit-identical state (training itself: for equal torch version, CPU type and thread count).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from thinwire.codecs import Arrays, Chain, Spec, grows
from thinwire.protocol.encoding import encode_message
from thinwire.protocol.fields import MAX_INLINE_BYTES
from thinwire.protocol.identity import broadcast_seed, client_seed, cohort_order
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TRIAL_ID

from .chains import Chains
from .client_half import ClientHalf, check_needs
from .definition import define
from .learner import Learner
from .payloads import PRIVATE, Part, decode_answer, first_payload, merge_parts, publish, receive, since
from .values import EVALUATE, Contribution, State, Task


class PreparedLearner(Learner, Protocol):
    """A learner that is told of each task before the client half sees it; `thinwire.edge_client.learner` has one."""

    def prepare(
        self,
        seed: int,
        *,
        reply: Spec | None = None,
        uplink: Chain | None = None,
        reference: Arrays | None = None,
        round_: int = 1,
        rounds: int = 1,
    ) -> None: ...


@dataclass(slots=True)
class Participant:
    """A client: its half, its learner, its memory, and the parts of the last exchange it took part in, `held_forms`: as
    they travel in full. `own_first`: a large part of the run's first model that is this client's own does not travel.
    `plans`: those that it has fetched.
    """

    half: ClientHalf[Any]
    learner: PreparedLearner
    memory: Arrays = field(default_factory=dict)
    held: Mapping[str, Arrays] = field(default_factory=dict)
    held_exchange: int = -1
    held_forms: Mapping[str, bytes] = field(default_factory=dict)
    own_first: bool = False
    plans: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One exchange that is over. `contributors`: sorted. Bytes are those of payloads alone, without any framing.

    `metrics`: client -> what came with its answer. `given_up`: the quorum was missed and the method went on without.
    `fetched`, `uploaded`: payloads that the service sends in requests of their own, since no message has room for them.
    `plans`: as many were fetched, since their clients had not had them, of `plan_bytes` together.
    """

    round: int
    step: int
    kind: str
    contributors: list[str]
    uplink_bytes: int
    downlink_bytes: int
    metrics: Mapping[str, Mapping[str, float]]
    given_up: bool = False
    fetched: int = 0
    uploaded: int = 0
    plans: int = 0
    plan_bytes: int = 0

    def mean(self, name: str) -> float:
        """Of a metric, weighted by the examples that were evaluated."""
        found = [(m["examples"], m[name]) for m in self.metrics.values() if name in m]
        return sum(n * value for n, value in found) / sum(n for n, _ in found)


@dataclass(frozen=True, slots=True)
class Simulated:
    """A run that is over: its final state, its model (None where there is none), its exchanges in order."""

    state: State
    model: Arrays | None
    exchanges: list[Exchanged]


def simulate(
    run: RunSettings,
    model: Arrays,
    participants: Mapping[str, Participant],
    *,
    contributors: Sequence[Collection[str]] | None = None,
    step: Callable[[Exchanged], None] | None = None,
) -> Simulated:
    """The whole run. `contributors`: whose answers counted in each exchange, the one of evaluation included; without it
    every exchange counts all it asks. Nobody else is asked, so an answer that came too late leaves no trace. `step`:
    hears of each exchange when it is over.

    A set smaller than the quorum is an exchange that the method gave up. Raises: `run-invalid` (as the service would),
    `CodecError` (an answer that the service would refuse), `ValueError` (sets that do not fit the run).
    """
    simulation = _Simulation(run, participants, step or _unheard)
    definition = simulation.definition = simulation.definition.for_model(model)
    state = definition.first_state(model)
    counted: list[str] = []
    while (task := simulation.server.task(state)) is not None:
        wanted = simulation.cohort(task, counted, contributors)
        state, counted = simulation.exchange(task, state, wanted)
    if run.evaluate and (task := simulation.server.evaluation(state)) is not None:
        simulation.exchange(task, state, simulation.cohort(task, counted, contributors))
    return Simulated(state, definition.final_model(state), simulation.exchanges)


@dataclass(frozen=True, slots=True)
class _Decoded:
    payload: bytes
    spec: Spec
    base: Arrays | None
    arrays: Arrays


def _unheard(_: Exchanged) -> None:
    """Nobody listens."""


class _Simulation:
    def __init__(
        self, run: RunSettings, participants: Mapping[str, Participant], step: Callable[[Exchanged], None]
    ) -> None:
        self.run = run
        self._step = step
        self.participants = participants
        self.definition = define(TRIAL_ID, run)
        self.server = self.definition.server
        self.exchanges: list[Exchanged] = []
        self._before: dict[str, Part] = {}
        self._decoded: list[_Decoded] = []

    def cohort(self, task: Task, counted: list[str], contributors: Sequence[Collection[str]] | None) -> list[str]:
        """Who contributes to the next exchange."""
        index = len(self.exchanges)
        if contributors is not None:
            if index >= len(contributors):
                raise ValueError(f"no contributors are given for exchange {index}")
            return cohort_order(self.run.seed, task.round, contributors[index])
        if task.cohort == "same":
            return cohort_order(self.run.seed, task.round, counted)
        return cohort_order(self.run.seed, task.round, self.participants)[: self.run.cohort]

    def exchange(self, task: Task, state: State, cohort: list[str]) -> tuple[State, list[str]]:
        """The state after one exchange, and whose answers counted."""
        chains = self.definition.chains(task.kind)
        seed = broadcast_seed(self.run.seed, task.round, task.step)
        bases = self._before if chains.down.needs_reference else {}
        parts = {
            name: publish(arrays, chains, spec=task.spec(name), base=bases.get(name), seed=seed)
            for name, arrays in task.parts.items()
        }
        plan = encode_message(self.definition.plan(task, {name: part.spec for name, part in parts.items()}))
        new_to_it = [one for name in cohort if plan not in (one := self.participants[name]).plans]
        for one in new_to_it:
            one.plans.add(plan)
        total = self.server.reducer.zero()
        up = down = fetched = uploaded = 0
        metrics: dict[str, Mapping[str, float]] = {}
        for slot, name in enumerate(cohort):
            received, size, apart = self._receive(name, parts, chains, seed)
            private, private_size = self._private(state, task, name, chains)
            contribution, answer_size = self._ask(slot, name, task, {**received, **private}, chains)
            up, down, fetched = up + answer_size, down + size + private_size, fetched + apart
            uploaded += answer_size > MAX_INLINE_BYTES
            metrics[name] = contribution.metrics
            if task.kind != EVALUATE:
                total = self.server.reducer.add(total, self.server.reducer.check(contribution))
        self._before, self._decoded = parts, []
        after: State | None = state
        # A cohort "same" may be smaller than the quorum of the run.
        needed = self.run.needed
        if task.cohort == "same" and self.exchanges:
            needed = min(needed, len(self.exchanges[-1].contributors))
        given_up = task.kind != EVALUATE and len(cohort) < max(1, needed)
        if given_up:
            after = self.server.give_up(state)
        elif task.kind != EVALUATE:
            after = self.server.advance(state, total)
        if after is None:
            raise ValueError(f"round {task.round}, step {task.step}: {len(cohort)} of {needed} answers")
        exchanged = Exchanged(
            task.round, task.step, task.kind, sorted(cohort), up, down, metrics, given_up, fetched, uploaded,
            len(new_to_it), len(plan) * len(new_to_it),
        )  # fmt: skip
        self.exchanges.append(exchanged)
        self._step(exchanged)
        return after, exchanged.contributors

    def _receive(
        self, name: str, parts: Mapping[str, Part], chains: Chains, seed: int
    ) -> tuple[dict[str, Arrays], int, int]:
        """The parts as this client decodes them, the bytes it needed, and how many of them it fetched apart."""
        client, index = self.participants[name], len(self.exchanges)
        is_previous = client.held_exchange == index - 1
        received: dict[str, Arrays] = {}
        size = apart = 0
        room = MAX_INLINE_BYTES
        for part_name, part in parts.items():
            base = client.held.get(part_name)
            if base is not None and client.held_forms[part_name] == part.full:
                received[part_name] = base
                continue
            delta = part.delta if base is not None and is_previous else None
            if base is not None and chains.follows_any:
                rows = {array: len(base[array]) for array in part.arrays if grows(part.spec, array)}
                delta = since(part.arrays, part.spec, chains, rows) if rows else delta
                delta = None if delta is None or len(delta) > len(part.full) else delta
            payload = part.full if delta is None else delta
            if len(payload) <= room:
                room -= len(payload)
                size += len(payload)
            elif index or not client.own_first or first_payload(client.learner, part.spec, chains, seed) != payload:
                apart, size = apart + 1, size + len(payload)
            received[part_name] = self._decode(payload, part.spec, chains, None if delta is None else base, seed)
        client.held, client.held_exchange = received, index
        client.held_forms = {part_name: part.full for part_name, part in parts.items()}
        return received, size, apart

    def _decode(self, payload: bytes, spec: Spec, chains: Chains, base: Arrays | None, seed: int) -> Arrays:
        """What a client makes of a payload: once for all that hold the same, and not theirs to write to."""
        for one in self._decoded:
            if one.base is base and one.payload == payload and one.spec is spec:
                return one.arrays
        arrays = receive(payload, spec, chains, base=base, seed=seed)
        for array in arrays.values():
            array.flags.writeable = False
        self._decoded.append(_Decoded(payload, spec, base, arrays))
        return arrays

    def _private(self, state: State, task: Task, name: str, chains: Chains) -> tuple[dict[str, Arrays], int]:
        arrays = self.server.private(state, task, name)
        if arrays is None:
            return {}, 0
        seed, spec = client_seed(self.run.seed, task.round, task.step, name), Spec.of(arrays)
        payload = chains.private.encode(arrays, spec, seed=seed)
        return {PRIVATE: chains.private.decode(payload, spec, seed=seed)}, len(payload)

    def _ask(
        self, slot: int, name: str, task: Task, parts: dict[str, Arrays], chains: Chains
    ) -> tuple[Contribution, int]:
        """What the server decodes of this client's answer, and its bytes; the client's memory is the accepted one."""
        client = self.participants[name]
        seed = client_seed(self.run.seed, task.round, task.step, name)
        reference = merge_parts(parts)
        client.learner.prepare(
            seed,
            reply=task.reply,
            uplink=chains.up,
            reference=reference,
            round_=task.round,
            rounds=self.run.rounds,
        )
        seen = Task(task.round, task.step, task.kind, parts, task.reply, options=task.options)
        if not self.exchanges:
            check_needs(client.half, client.learner, self.run.method)
            client.half.check(seen, client.learner)
        outcome = client.half.perform(seen, client.memory, client.learner)
        answer = outcome.answer
        payload = client.learner.encoded(answer.arrays)
        arrays = decode_answer(payload, task.reply, chains.up, reference=reference, seed=seed)
        client.memory = outcome.memory_if_accepted
        examples = min(answer.examples, self.run.max_examples)
        return Contribution(slot, name, examples, arrays, answer.metrics), len(payload)
