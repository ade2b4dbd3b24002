"""What a run's settings mean: method, server half, chains, plans. The same for the service and for a simulation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from pydantic import ValidationError

from thinwire.codecs import Arrays, Chain, CodecError, Spec
from thinwire.protocol.encoding import spec_digest
from thinwire.protocol.messages import ChainsMessage, Plan
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from .arrays import Model, buffers_of
from .chains import Chains, bits_of, size_of
from .contraction import loss_of, require_bearable, require_first_delta
from .method import Method
from .reducers import Bounds, Robust
from .registry import find_method, server_half
from .server_half import RunFacts, ServerHalf
from .settings import LocalTraining, MethodSettings
from .values import EVALUATE, State, Task

_EVALUATION: Final = Chains.parse("byte_shuffle, zstd")


@dataclass(frozen=True)
class Definition:
    """A run's constant side. `id`: what plans call the run. `spec`: the digest of the spec that all clients' models
    must have, None: any; `parameters`: how many numbers the run's model has.
    """

    id: str
    run: RunSettings
    method: Method
    settings: MethodSettings
    server: ServerHalf[Any]
    spec: bytes | None
    parameters: int
    # Asked for by everybody who looks at a run, and as constant as all of it.
    _chains: dict[tuple[str, int | None], Chains] = field(init=False, repr=False, compare=False, default_factory=dict)

    def chains(self, kind: str, bits: int | None = None) -> Chains:
        """The chains in force for a kind of exchange: the method's defaults, or raw ones, with what the run says put
        over them. `bits`: no `quantise` of training has more. Raises: `CodecError`.
        """
        key = kind, None if kind == EVALUATE else bits
        if key not in self._chains:
            made = self._made_chains(kind)
            self._chains[key] = made if key[1] is None else made.with_bits(key[1])
        return self._chains[key]

    def lowers(self, kind: str) -> bool:
        """Whether fewer bits make payloads of this kind of exchange smaller."""
        chains = self.chains(kind)
        return bits_of(chains.up) is not None or bits_of(chains.down) is not None

    def sizes(self, kind: str) -> dict[int, tuple[int, int]]:
        """How long payloads up and down are to each other (`size_of`) by the bits that `quantise` may have at most,
        from the bits of this kind of exchange down to `least_bits`; empty where there is nothing to lower.
        """
        chains = self.chains(kind)
        widest = max(bits_of(chains.up) or 0, bits_of(chains.down) or 0)
        least = widest if self.run.least_bits is None else min(widest, self.run.least_bits)
        found = {bits: self.chains(kind, bits) for bits in range(least, widest + 1) if bits}
        return {bits: (size_of(one.up), size_of(one.down)) for bits, one in found.items()}

    def _made_chains(self, kind: str) -> Chains:
        run, plain, defaults = self.run, self.run.chains == "plain", self.method.chains(self.settings)
        written = run.chains if isinstance(run.chains, dict) else {}
        unknown = [name for name in written if name not in {"*", EVALUATE, *defaults}]
        if unknown:
            raise CodecError("bad-chain", f"{self.method.id} has no exchanges of kind {unknown[0]!r}")
        usual = _EVALUATION if kind == EVALUATE else Chains()
        chains = Chains.plain() if plain else defaults.get(kind, usual)
        names = (kind,) if kind == EVALUATE else ("*", kind)
        for over in [written[name] for name in names if name in written]:
            chains = _put_over(chains, over.down, over.up, over.private)
        if kind != EVALUATE:
            chains = _put_over(chains, run.downlink, run.uplink, None)
        require_first_delta(chains.down)
        require_first_delta(chains.up)
        if chains.private.needs_reference:
            raise CodecError("bad-chain", "the chain of private parts cannot have a reference")
        return chains

    def for_model(self, model: Arrays) -> Definition:
        """The same run, of this model."""
        run = self.run
        if run.frozen is None and isinstance(model, Model) and model.frozen:
            run = run.model_copy(update={"frozen": model.frozen})
        spec = spec_digest(Spec.of(model)) if self.method.shared_model else None
        return replace(self, run=run, spec=spec, parameters=sum(array.size for array in model.values()))

    @cached_property
    def builds_on_broadcasts(self) -> bool:
        """Whether a broadcast may be written against the one before, whose arrays must then be kept."""
        kinds = self.method.chains(self.settings)
        return any(self.chains(kind).down.needs_reference for kind in (*kinds, EVALUATE))

    @cached_property
    def warnings(self) -> list[str]:
        """What a person should know before this run begins, and when they look at it, one sentence each."""
        weighting = self.settings.weighting if isinstance(self.settings, LocalTraining) else None
        robust = Robust.of(self.run).warnings(self.run.cohort, self.run.needed, weighting)
        return [*robust, *self.server.warnings(), *self._noise()]

    def _noise(self) -> Iterator[str]:
        """Of chains up that lose more than the cohort averages away."""
        if getattr(self.settings, "error_feedback", True):
            return
        for up in dict.fromkeys(self.chains(kind).up for kind in self.method.chains(self.settings)):
            if (loss := loss_of(up)) > self.run.cohort:
                yield (
                    f"the chain up, {up}, loses {loss:.0f} times the square of what it is given, and the mean of "
                    f"{self.run.cohort} answers is more of that than of what was learnt: set error-feedback=true, or "
                    "more bits."
                )

    def plan(self, task: Task, parts: Mapping[str, Spec], bits: int | None = None) -> Plan:
        """What is constant for this kind of exchange. `bits`: as of `chains`."""
        chains = self.chains(task.kind, bits)
        return Plan(
            run=self.id,
            method=self.method.id,
            settings=self.settings.told(),
            kind=task.kind,
            seed=self.run.seed,
            rounds=self.run.rounds,
            parts={name: spec.to_plain() for name, spec in parts.items()},
            reply=task.reply.to_plain(),
            chains=ChainsMessage(
                down=chains.down.to_plain(),
                up=chains.up.to_plain(),
                full=chains.full.to_plain(),
                private=chains.private.to_plain(),
            ),
            max_examples=self.run.max_examples,
            model=self.spec,
            frozen=list(self.run.frozen) if self.spec is not None and isinstance(self.run.frozen, tuple) else None,
        )

    def marked(self, arrays: Arrays) -> Model:
        """These arrays with the marks of what travels apart, and of what does not at all: as model files have them."""
        return Model(arrays, buffers_of(arrays), self.run.frozen if isinstance(self.run.frozen, tuple) else ())

    def final_model(self, state: State) -> Model | None:
        """What the run gives when it ends at this state; None of a method without a global model."""
        arrays = self.server.model(state)
        return None if arrays is None else self.marked(arrays)

    def first_state(self, model: Arrays) -> State:
        """The state before the first exchange, whose chains are proved on it; nor may a guard guard nothing, which
        only a run of before it was refused does. Raises: `run-invalid`.
        """
        robust = Robust.of(self.run)
        try:
            robust.refuse_idle(self.run.least_cohort or self.run.cohort)
            _refuse_wide(robust, self.run.max_value, model)
            state = self.server.start(model, self.run.seed)
            task = self.server.task(state)
            if task is not None:
                for bits in dict.fromkeys((None, self.run.least_bits)):
                    self._prove(task, self.chains(task.kind, bits))
        except (CodecError, ValueError) as error:
            raise ProblemError("run-invalid", str(error)) from None
        return state

    def _prove(self, task: Task, chains: Chains) -> None:
        """Raises: `CodecError` where the chains cannot be those of this task."""
        for part in task.parts:
            chains.down.bound(task.spec(part))
            chains.whole.bound(task.spec(part))
            require_bearable(chains.down, task.parts[part], task.spec(part), self.run.seed)
        chains.up.bound(task.reply)


def define(run_id: str, run: RunSettings, *, spec: bytes | None = None, parameters: int = 0) -> Definition:
    """The run these settings mean. Raises: `run-invalid`, with what does not go together."""
    try:
        method = find_method(run.method)
        settings = method.settings.model_validate(run.settings)
        robust = Robust.of(run)
        method.check(settings, robust)
        if run.max_staleness is not None and not method.asynchronous:
            raise ValueError(
                f"{run.method} has no asynchronous runs: its answers belong to the exchange that asked for them. Leave "
                "out max-staleness, or take fedavg"
            )
        bounds = Bounds(run.cohort, run.max_examples, run.max_value)
        facts = RunFacts(run.rounds, run.seed, bounds, robust, run.max_staleness is not None)
        server = server_half(run.method)(settings, facts)
        definition = Definition(run_id, run, method, settings, server, spec, parameters)
        for kind in (EVALUATE, *method.chains(settings)):
            definition.chains(kind)  # whatever is written wrongly shows here
        if run.least_bits is not None and not any(map(definition.lowers, method.chains(settings))):
            raise ValueError(
                "least-bits lowers the bits of quantise behind entropy or zstd; no chain of this run has it"
            )
    except KeyError as error:
        raise ProblemError("run-invalid", str(error.args[0])) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ProblemError("run-invalid", f"settings of {run.method}: {where}: {first['msg']}") from None
    except (CodecError, ValueError) as error:
        raise ProblemError("run-invalid", str(error)) from None
    return definition


def _refuse_wide(robust: Robust, max_value: float, model: Arrays) -> None:
    """Raises `ValueError` where no answer that the run takes can be as long as its bound on norms."""
    longest = max_value * math.sqrt(sum(array.size for array in model.values()))
    if robust.max_norm is not None and robust.max_norm >= longest:
        raise ValueError(
            f"max-norm {robust.max_norm:g} bounds nothing: no update of this model within max-value {max_value:g} is "
            f"longer than {longest:.4g}. Take a bound near the norm of an honest update"
        )


def _put_over(chains: Chains, down: str | None, up: str | None, private: str | None) -> Chains:
    return Chains(
        chains.down if down is None else Chain.parse(down),
        chains.up if up is None else Chain.parse(up),
        chains.full,
        chains.private if private is None else Chain.parse(private),
    )
