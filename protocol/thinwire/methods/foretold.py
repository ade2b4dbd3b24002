"""What the payloads of a run will weigh, before anything is trained or sent: its server half, fed with specimens.

Two runs are played, one with answers that are as easy to write as real ones get, one with dense ones. Where both give a
payload of the same size, its chain's sizes are fixed, and this is the size; elsewhere a range is known, from somewhat
below the easier one to the chain's bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

import numpy as np

from thinwire.codecs import Arrays, Chain, Spec
from thinwire.protocol.encoding import encode_message
from thinwire.protocol.fields import MAX_INLINE_BYTES
from thinwire.protocol.identity import broadcast_seed
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TRIAL_ID, TrialExchange, TrialResult

from .arrays import own_name
from .chains import Chains
from .definition import Definition, define
from .payloads import beside_payloads, merge_parts, travels_inside
from .values import Contribution, State, Task

EASIER: Final = 0.9
"""Times the easier payload: the least that is taken for possible."""
_CLIENT: Final = "client"
_CONTENTS: Final = 3
"""Of which the size is found out for arrays of the same shapes; from then on all weigh what the lighter one does."""


@dataclass(frozen=True, slots=True)
class _Payload:
    """Bytes of one, and the most that its chain may write."""

    size: int = 0
    bound: int = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    """Of an exchange: the parts for a client that holds those before, and for one that holds nothing; what is private;
    the answer. `first`: of the run; `own`: a first model that clients make themselves, and are not sent if it is large.
    """

    task: Task
    held: list[_Payload]
    full: list[_Payload]
    private: _Payload
    answer: _Payload
    first: bool
    own: bool


def foretell(run: RunSettings, model: Arrays, clients: int, *, own_first: bool = True) -> tuple[TrialResult, ...]:
    """The least and the most that the run will take, where each of so many clients may be asked in every exchange.

    `own_first`: whether clients make the run's first model themselves, so that a large one does not travel.
    Raises: `run-invalid`, also where the size of answers follows from what each client has.
    """
    definition = define(TRIAL_ID, run).for_model(model)
    asked = min(clients, round(run.cohort * run.over_select))
    easy, dense = (_Play(definition, model, dense=dense, own_first=own_first) for dense in (False, True))
    exchanges, plans = [], set[bytes]()
    for one, other in zip(easy.sent(), dense.sent(), strict=True):
        exchanges.append(_range(one, other, clients, asked))
        specs = {name: one.task.spec(name) for name in one.task.parts}
        plans.add(encode_message(definition.plan(one.task, specs)))
    size = sum(map(len, plans))
    return tuple(
        TrialResult(outcome="completed", exchanges=list(each), plans=len(plans), plan_bytes=size)
        for each in zip(*exchanges, strict=True)
    )


class _Play:
    def __init__(self, definition: Definition, model: Arrays, *, dense: bool, own_first: bool) -> None:
        self.state: State = definition.first_state(model)
        self._definition, self._model = definition, model
        self._dense, self._own_first = dense, own_first
        self._rng = np.random.default_rng(definition.run.seed)
        self._before: dict[str, tuple[Spec, Arrays]] = {}
        self._sizes: dict[Any, dict[int, _Payload]] = {}
        self._answers: dict[Any, tuple[Arrays, Any]] = {}
        self._first = True

    def sent(self) -> Iterator[_Sent]:
        """Of all exchanges in order."""
        server = self._definition.server
        while (task := server.task(self.state)) is not None:
            arrays, total = self._answer(task)
            yield self._of(task, arrays)
            self.state = server.advance(self.state, total)
        if self._definition.run.evaluate and (task := server.evaluation(self.state)) is not None:
            yield self._of(task, {})

    def _answer(self, task: Task) -> tuple[Arrays, Any]:
        """A specimen, and the sum of it alone. Two of them take turns where the same is asked for: after the same one
        again a model may be what it was, and nothing would be sent.
        """
        key = (self._first, task.round % 2, task.kind, task.reply)
        if key not in self._answers:
            server = self._definition.server
            arrays = server.specimen(task, self._rng, dense=self._dense)
            if arrays is None:
                detail = "its answers are as large as what each client has to tell: thinwire advise plays it"
                raise ProblemError("run-invalid", f"{self._definition.method.id} cannot be foretold: {detail}")
            one = server.reducer.check(Contribution(0, _CLIENT, 1, arrays))
            self._answers[key] = arrays, server.reducer.add(server.reducer.zero(), one)
        return self._answers[key]

    def _of(self, task: Task, answer: Arrays) -> _Sent:
        definition, server = self._definition, self._definition.server
        chains = definition.chains(task.kind, round_=task.round)
        seed = broadcast_seed(definition.run.seed, task.round, task.step)
        parts = [(name, task.spec(name), arrays) for name, arrays in task.parts.items()]
        full = [self._written(name, chains.whole, arrays, spec, None, seed) for name, spec, arrays in parts]
        first = self._first
        own = first and self._own_first and any(self._is_own(spec, arrays) for _, spec, arrays in parts)
        held = [self._held(*part, chains, whole, seed) for part, whole in zip(parts, full, strict=True)]
        self._before = {name: (spec, arrays) for name, spec, arrays in parts}
        self._first = False
        reference = merge_parts(task.parts)
        mine = server.private(self.state, task, _CLIENT)
        private = _Payload()
        if mine is not None:
            private = self._written("private", chains.private, mine, Spec.of(mine), None, seed)
        returned = self._written("answer", chains.up, answer, task.reply, reference, seed) if answer else _Payload()
        return _Sent(task, held, full, private, returned, first, own)

    def _held(self, name: str, spec: Spec, arrays: Arrays, chains: Chains, full: _Payload, seed: int) -> _Payload:
        """For a client that holds the part of the exchange before."""
        before, base = self._before.get(name, (None, {}))
        if before != spec:
            return full
        if chains.down.lossless and _same(arrays, base):
            return _Payload()
        if not chains.down.needs_reference:
            return full
        delta = self._written(name, chains.down, arrays, spec, base, seed)
        return _Payload(min(delta.size, full.size), min(delta.bound, full.bound))

    def _written(
        self, name: str, chain: Chain, arrays: Arrays, spec: Spec, reference: Arrays | None, seed: int
    ) -> _Payload:
        """Arrays of the same shapes weigh the same, once they have changed: before that, both plays know them alike."""
        shapes = tuple((array, arrays[array].shape) for array in arrays)
        grown = tuple((array, base.shape) for array, base in (reference or {}).items() if array in arrays)
        sizes = self._sizes.setdefault((name, chain, spec, shapes, grown), {})
        content = 0
        for array in arrays.values():
            content = crc32(np.ascontiguousarray(array).data, content)
        if content not in sizes and len(sizes) < _CONTENTS:
            size = len(chain.encode(arrays, spec, reference=reference, seed=seed))
            sizes[content] = _Payload(size, max(size, chain.bound(spec).max_payload_bytes))
        if len(sizes) < _CONTENTS:
            return sizes[content]
        # The first may be of what is known before anything is trained.
        return min(list(sizes.values())[1:], key=lambda one: one.size)

    def _is_own(self, spec: Spec, arrays: Arrays) -> bool:
        """Whether a part holds arrays of the run's first model as they are."""
        first = self._model
        return (
            all(
                own_name(name) in first and np.array_equal(first[own_name(name)], array)
                for name, array in arrays.items()
            )
            and len(spec) > 0
        )


def _same(arrays: Arrays, others: Arrays) -> bool:
    return arrays.keys() == others.keys() and all(
        array.dtype == others[name].dtype and np.array_equal(array, others[name]) for name, array in arrays.items()
    )


def _range(easy: _Sent, dense: _Sent, clients: int, asked: int) -> tuple[TrialExchange, TrialExchange]:
    """The least and the most of an exchange. Whoever was not asked the time before holds nothing that helps."""
    fewest = asked if easy.task.cohort == "same" else max(0, 2 * asked - clients)
    ends = []
    for most, holders in ((False, asked), (True, fewest)):
        held = _summed(easy, easy.held, dense.held, most=most)
        full = _summed(easy, easy.full, dense.full, most=most)
        up, private = (_end(*pair, most=most) for pair in ((easy.answer, dense.answer), (easy.private, dense.private)))
        others = asked - holders
        one = TrialExchange(
            round=easy.task.round,
            kind=easy.task.kind,
            clients=asked,
            uplink_bytes=asked * up,
            downlink_bytes=holders * held[0] + others * full[0] + asked * private,
            fetched=holders * held[1] + others * full[1],
            uploaded=asked * (up > MAX_INLINE_BYTES),
            beside_bytes=holders * held[2] + others * full[2],
            metrics={},
        )
        ends.append(one)
    return ends[0], ends[1]


def _summed(sent: _Sent, easy: list[_Payload], dense: list[_Payload], *, most: bool) -> tuple[int, int, int]:
    """Bytes of all parts for one client, how many of them it has to ask for, and what they take beside payloads."""
    room, size, apart, made = MAX_INLINE_BYTES, 0, 0, 0
    for pair in zip(easy, dense, strict=True):
        found = _end(*pair, most=most)
        if travels_inside(found, room, first=sent.first):
            room, size = room - found, size + found
        elif not sent.own:
            apart, size = apart + 1, size + found
        else:
            made += 1
    return size, apart, beside_payloads(len(easy), made)


def _end(easy: _Payload, dense: _Payload, *, most: bool) -> int:
    if easy.size == dense.size:
        return easy.size
    return max(easy.bound, dense.bound) if most else int(EASIER * min(easy.size, dense.size))
