"""What a run is made of: method, settings, chains, plans."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from thinwire.codecs import Array, Arrays, CodecError, Spec
from thinwire.methods.interface import (
    EVALUATE,
    Bounds,
    Chains,
    Method,
    MethodSettings,
    Robust,
    RunFacts,
    ServerHalf,
    State,
    Task,
)
from thinwire.methods.registry import find_method, server_half
from thinwire.methods.run_chains import resolve_chains
from thinwire.protocol.encoding import spec_digest
from thinwire.protocol.messages import ChainsMessage, Plan
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

ORDER: Final = "order"
"""Key of a model file's metadata: the names of its arrays in the order of the model, as JSON."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A run's constant side. `spec`: the model's digest where all clients must have the same model."""

    id: str
    run: RunSettings
    method: Method
    settings: MethodSettings
    server: ServerHalf[Any]
    spec: bytes | None
    parameters: int

    def chains(self, kind: str) -> Chains:
        """The chains in force for a kind of exchange."""
        return resolve_chains(self.run, self.method, self.settings, kind)

    @property
    def builds_on_broadcasts(self) -> bool:
        """Whether a broadcast may be written against the one before, whose arrays must then be kept."""
        kinds = self.method.chains(self.settings)
        return any(self.chains(kind).down.needs_reference for kind in (*kinds, EVALUATE))

    def plan(self, task: Task, parts: Mapping[str, Spec]) -> Plan:
        """What is constant for this kind of exchange."""
        chains = self.chains(task.kind)
        return Plan(
            run=self.id,
            method=self.method.id,
            settings=self.settings.model_dump(mode="json", by_alias=True),
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
        )


def define(run_id: str, run: RunSettings, *, spec: bytes | None = None, parameters: int = 0) -> Definition:
    """The run these settings mean. Raises: `run-invalid`, with what does not go together."""
    try:
        method = find_method(run.method)
        settings = method.settings.model_validate(run.settings)
        robust = Robust.of(run)
        method.check(settings, robust)
        facts = RunFacts(run.rounds, run.seed, Bounds(run.cohort, run.max_examples, run.max_value), robust)
        server = server_half(run.method)(settings, facts)
        definition = Definition(run_id, run, method, settings, server, spec, parameters)
        definition.chains(EVALUATE)  # whatever is written wrongly shows here
    except KeyError as error:
        raise ProblemError("run-invalid", str(error.args[0])) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ProblemError("run-invalid", f"settings of {run.method}: {where}: {first['msg']}") from None
    except (CodecError, ValueError) as error:
        raise ProblemError("run-invalid", str(error)) from None
    return definition


def first_state(definition: Definition, model: Arrays) -> State:
    """The state before the first exchange, whose chains are proved on it. Raises: `run-invalid`."""
    try:
        state = definition.server.start(model, definition.run.seed)
        task = definition.server.task(state)
        if task is not None:
            chains = definition.chains(task.kind)
            for arrays in task.parts.values():
                chains.down.check(Spec.of(arrays))
                chains.whole.check(Spec.of(arrays))
            chains.up.check(task.reply)
    except (CodecError, ValueError) as error:
        raise ProblemError("run-invalid", str(error)) from None
    return state


def read_model(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file, floating ones finite, in the order of the model they came from where the file's
    metadata has it: methods cut models by it. Raises: `run-invalid`.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            order = json.loads((file.metadata() or {}).get(ORDER, "[]"))
            ranks = {name: rank for rank, name in enumerate(order)}
            names = sorted(file.keys(), key=lambda name: ranks.get(name, len(ranks)))
            arrays: dict[str, Array] = {name: file.get_tensor(name) for name in names}
        Spec.of(arrays)
    except (SafetensorError, CodecError, ValueError, TypeError, KeyError) as error:
        raise ProblemError("run-invalid", f"not a model file (safetensors): {error}") from None
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ProblemError("run-invalid", f"array {name!r} of the model holds a value that is not finite")
    return arrays


def model_bytes(arrays: Arrays) -> bytes:
    """The safetensors file of these arrays, with their order."""
    return save(dict(arrays), metadata={ORDER: json.dumps(list(arrays))})


def model_facts(method: Method, model: Arrays) -> tuple[bytes | None, int]:
    """The digest that clients' models must have (None: any), and the number of parameters."""
    spec = spec_digest(Spec.of(model)) if method.shared_model else None
    return spec, sum(array.size for array in model.values())
