"""A run in one process: the same halves, payloads, seeds and sums as over the service, without the service.

A run is a function of its settings, its seed and the list of its contributor sets: with the sets that a service's run
had, `simulate` ends in the bit-identical state (training itself: for equal torch version, CPU type and thread count).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from thinwire.codecs import Arrays, Spec
from thinwire.protocol.encoding import encode_message
from thinwire.protocol.fields import MAX_INLINE_BYTES
from thinwire.protocol.identity import broadcast_seed, client_seed, cohort_order
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TRIAL_ID

from .buffer import Buffer, Counted
from .chains import Chains
from .definition import define
from .payloads import Part, publish
from .simulated_clients import Clients, Crew, Participant, Sent
from .values import EVALUATE, State, Task

__all__ = ["Counted", "Exchanged", "Participant", "Simulated", "simulate"]


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One exchange that is over. `contributors`: sorted. Bytes are those of payloads alone, without any framing. Of an
    asynchronous run, `counted`: the answers that count, sorted, and `metrics` are of its own task: later exchanges may
    add to them.

    `metrics`: client -> what came with its answer. `given_up`: the quorum was missed and the method went on without.
    `fetched`, `uploaded`: payloads that the service sends in requests of their own, since no message has room for them.
    `beside_bytes`: what their parts took in messages beside payloads, beyond one of each.
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
    beside_bytes: int = 0
    plans: int = 0
    plan_bytes: int = 0
    counted: Sequence[Counted] = ()

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
    counted: Sequence[Collection[Counted]] | None = None,
    step: Callable[[Exchanged], None] | None = None,
    crew: Crew | None = None,
) -> Simulated:
    """The whole run. `contributors`: whose answers counted in each exchange, the one of evaluation included; without it
    every exchange counts all it asks. Nobody else is asked, so an answer that came too late leaves no trace. `counted`:
    instead, of an asynchronous run, which answers counted in each exchange but that of evaluation; without it those of
    `Buffer`. `step`: hears of each exchange when it is over. `crew`: where the participants are; None: in this process.

    A set smaller than the quorum is an exchange that the method gave up. Raises: `run-invalid` (as the service would),
    `CodecError` (an answer that the service would refuse), `ValueError` (sets that do not fit the run).
    """
    simulation = _Simulation(run, participants, step, crew)
    definition = simulation.definition = simulation.definition.for_model(model)
    state = definition.first_state(model)
    before: list[str] = []
    while (task := simulation.server.task(state)) is not None:
        if run.max_staleness is None:
            wanted = simulation.now(simulation.cohort(task, before, contributors))
        else:
            wanted = simulation.buffered(task, counted)
        state, before = simulation.exchange(task, state, wanted)
    if run.evaluate and (task := simulation.server.evaluation(state)) is not None:
        simulation.exchange(task, state, simulation.now(simulation.cohort(task, before, contributors)))
    return Simulated(state, definition.final_model(state), simulation.exchanges)


def _unheard(_: Exchanged) -> None:
    """Nobody listens."""


class _Simulation:
    def __init__(
        self,
        run: RunSettings,
        participants: Mapping[str, Participant],
        step: Callable[[Exchanged], None] | None = None,
        crew: Crew | None = None,
    ) -> None:
        self.run = run
        self._step = step or _unheard
        self.crew = crew or Clients(run, participants)
        self.participants = participants
        self.definition = define(TRIAL_ID, run)
        self.server = self.definition.server
        self.exchanges: list[Exchanged] = []
        self._before: dict[str, Part] = {}
        self._buffer = Buffer(run, participants)
        self._sent: dict[int, Sent] = {}
        self._metrics: dict[int, dict[str, Mapping[str, float]]] = {}

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

    def now(self, cohort: list[str]) -> dict[int, list[str]]:
        """These clients, who answer the exchange that is next."""
        return {len(self.exchanges): cohort}

    def buffered(self, task: Task, counted: Sequence[Collection[Counted]] | None) -> dict[int, list[str]]:
        """Whose answers count in the next exchange of an asynchronous run, by the exchange whose task they answer."""
        index = len(self.exchanges)
        if counted is not None and index >= len(counted):
            raise ValueError(f"nothing is said of what counted in exchange {index}")
        found = self._buffer.next(index, task.round) if counted is None else counted[index]
        by_exchange: dict[int, list[str]] = {}
        for one in sorted(found, key=lambda one: (one.exchange, one.client)):
            by_exchange.setdefault(one.exchange, []).append(one.client)
        if any(begun != index and begun not in self._sent for begun in by_exchange):
            raise ValueError(f"exchange {index} counts answers that are older than max-staleness, or to come")
        return by_exchange

    def exchange(self, task: Task, state: State, answering: Mapping[int, list[str]]) -> tuple[State, list[str]]:
        """The state after one exchange, and whose answers counted. `answering`: exchange -> who answers its task."""
        index = len(self.exchanges)
        cohort = [name for names in answering.values() for name in names]
        chains = self.definition.chains(task.kind, round_=task.round)
        seed = broadcast_seed(self.run.seed, task.round, task.step)
        bases = self._before if chains.down.needs_reference else {}
        parts = {
            name: publish(arrays, chains, spec=task.spec(name), base=bases.get(name), seed=seed)
            for name, arrays in task.parts.items()
        }
        private = {name: found for name in cohort if (found := self._private(state, task, name, chains)) is not None}
        plan = encode_message(self.definition.plan(task, {name: part.spec for name, part in parts.items()}))
        bare = replace(task, parts={})
        sent = Sent(
            len(self.exchanges),
            bare,
            parts,
            {name: arrays for name, (arrays, _) in private.items()},
            chains,
            plan,
            seed,
        )
        total = self.server.reducer.zero()
        up = fetched = uploaded = beside = plans = 0
        down = sum(size for _, size in private.values())
        told: dict[str, Mapping[str, float]] = {}
        self._sent[index], self._metrics[index] = sent, told
        for begun, names in answering.items():
            metrics: dict[str, Mapping[str, float]] = {}
            for one in self.crew.exchange(self._sent[begun], names):
                up, down, fetched = up + one.uplink_bytes, down + one.downlink_bytes, fetched + one.fetched
                uploaded += one.uplink_bytes > MAX_INLINE_BYTES
                beside += one.beside_bytes
                plans += not one.had_plan
                contribution = replace(one.contribution, staleness=index - begun)
                metrics[contribution.client] = contribution.metrics
                if task.kind != EVALUATE:
                    total = self.server.reducer.add(total, self.server.reducer.check(contribution))
            # In the order of the slots, whoever answered first.
            self._metrics[begun].update((name, metrics[name]) for name in names)
        self._before = parts
        for over in [begun for begun in self._sent if begun <= index - (self.run.max_staleness or 0)]:
            del self._sent[over], self._metrics[over]
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
            task.round, task.step, task.kind, sorted(cohort), up, down, told, given_up, fetched, uploaded,
            beside, plans, plans * len(plan),
            sorted(Counted(name, begun) for begun, names in answering.items() for name in names),
        )  # fmt: skip
        self.exchanges.append(exchanged)
        self._step(exchanged)
        return after, exchanged.contributors

    def _private(self, state: State, task: Task, name: str, chains: Chains) -> tuple[Arrays, int] | None:
        """What is for this client alone, as it decodes it, and its bytes."""
        arrays = self.server.private(state, task, name)
        if arrays is None:
            return None
        seed, spec = client_seed(self.run.seed, task.round, task.step, name), Spec.of(arrays)
        payload = chains.private.encode(arrays, spec, seed=seed)
        return chains.private.decode(payload, spec, seed=seed), len(payload)
