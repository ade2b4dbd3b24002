"""The clients of a run in one process: what each receives, how it answers, and what it remembers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from thinwire.codecs import Arrays, Chain, Spec, grows
from thinwire.protocol.fields import MAX_INLINE_BYTES
from thinwire.protocol.identity import client_seed
from thinwire.protocol.settings import RunSettings

from .chains import Chains
from .client_half import ClientHalf, check_needs
from .learner import Learner
from .payloads import (
    PRIVATE,
    Part,
    beside_payloads,
    decode_answer,
    first_payload,
    merge_parts,
    receive,
    since,
    travels_inside,
)
from .values import Contribution, Task


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
class Sent:
    """What an exchange sends. `index`: of the exchange; `task`: without its parts, which are `parts` as published;
    `private`: client -> the part for it alone; `seed`: of the broadcast.
    """

    index: int
    task: Task
    parts: Mapping[str, Part]
    private: Mapping[str, Arrays]
    chains: Chains
    plan: bytes
    seed: int


@dataclass(frozen=True, slots=True)
class Answered:
    """One client's answer. `uplink_bytes`, `downlink_bytes`: of payloads, private parts left out; `fetched`: how many
    of them travelled apart; `beside_bytes`: `beside_payloads`; `had_plan`: whether the plan did not have to travel.
    """

    contribution: Contribution
    uplink_bytes: int
    downlink_bytes: int
    fetched: int
    beside_bytes: int
    had_plan: bool


class Crew(Protocol):
    """Clients, wherever they are."""

    def exchange(self, sent: Sent, cohort: Sequence[str]) -> Iterator[Answered]:
        """The answers of these clients, whose slots are counted in this order; they come in any."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    payload: bytes
    spec: Spec
    base: Arrays | None
    arrays: Arrays


class Clients:
    """Clients of this process. The memory of each becomes what it is where its answer is accepted."""

    def __init__(self, run: RunSettings, participants: Mapping[str, Participant]) -> None:
        self._run = run
        self._participants = participants
        self._decoded: list[_Decoded] = []

    def exchange(self, sent: Sent, cohort: Sequence[str]) -> Iterator[Answered]:
        """As `Crew`. Raises: `CodecError`, `TaskRefusedError`."""
        return self.answers(sent, enumerate(cohort))

    def answers(self, sent: Sent, slots: Iterable[tuple[int, str]]) -> Iterator[Answered]:
        """Of these slots and their clients. Raises: `CodecError`, `TaskRefusedError`."""
        self._decoded = []
        for slot, name in slots:
            client = self._participants[name]
            received, size, apart, made = self._receive(client, sent)
            if name in sent.private:
                received[PRIVATE] = sent.private[name]
            contribution, answer_size = self._ask(slot, name, sent, received)
            had_plan = sent.plan in client.plans
            client.plans.add(sent.plan)
            beside = beside_payloads(len(sent.parts), made)
            yield Answered(contribution, answer_size, size, apart, beside, had_plan)

    def _receive(self, client: Participant, sent: Sent) -> tuple[dict[str, Arrays], int, int, int]:
        """The parts as this client decodes them, the bytes it needed, and how many it fetched apart and made itself."""
        index, parts, chains, seed = sent.index, sent.parts, sent.chains, sent.seed
        is_previous = client.held_exchange == index - 1
        received: dict[str, Arrays] = {}
        size = apart = made = 0
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
            if travels_inside(len(payload), room, first=not index):
                room -= len(payload)
                size += len(payload)
            elif index or not client.own_first or first_payload(client.learner, part.spec, chains, seed) != payload:
                apart, size = apart + 1, size + len(payload)
            else:
                made += 1
            received[part_name] = self._decode(payload, part.spec, chains, None if delta is None else base, seed)
        client.held, client.held_exchange = received, index
        client.held_forms = {part_name: part.full for part_name, part in parts.items()}
        return received, size, apart, made

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

    def _ask(self, slot: int, name: str, sent: Sent, parts: dict[str, Arrays]) -> tuple[Contribution, int]:
        """What the server decodes of this client's answer, and its bytes; the client's memory is the accepted one."""
        client, task, chains = self._participants[name], sent.task, sent.chains
        seed = client_seed(self._run.seed, task.round, task.step, name)
        reference = merge_parts(parts)
        client.learner.prepare(
            seed,
            reply=task.reply,
            uplink=chains.up,
            reference=reference,
            round_=task.round,
            rounds=self._run.rounds,
        )
        seen = Task(task.round, task.step, task.kind, parts, task.reply, options=task.options)
        if not sent.index:
            check_needs(client.half, client.learner, self._run.method)
            client.half.check(seen, client.learner)
        outcome = client.half.perform(seen, client.memory, client.learner)
        answer = outcome.answer
        payload = client.learner.encoded(answer.arrays)
        arrays = decode_answer(payload, task.reply, chains.up, reference=reference, seed=seed)
        client.memory = outcome.memory_if_accepted
        examples = min(answer.examples, self._run.max_examples)
        return Contribution(slot, name, examples, arrays, answer.metrics), len(payload)
