"""What a task brings: its plan and its parts, fetched, checked and decoded."""

from __future__ import annotations

from typing import Protocol

from thinwire.codecs import Array, Arrays, CodecError, Spec
from thinwire.machine.quantities import in_bytes
from thinwire.methods.chains import Chains
from thinwire.methods.client_half import check_needs
from thinwire.methods.payloads import PRIVATE, first_payload, receive
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.encoding import spec_digest
from thinwire.protocol.identity import broadcast_seed, client_seed, digest_of
from thinwire.protocol.messages import PartMessage, TaskMessage
from thinwire.protocol.reasons import ProblemError

from .console import Say
from .learner import Turns
from .memory.folder import Folder
from .memory.records import TornRecordError
from .memory.runs import RunMemory
from .plans import MAX_PLAN_BYTES, CheckedPlan, check_plan


class PartsLostError(Exception):
    """The parts that a task builds on cannot be read."""


class Fetch(Protocol):
    """As `thinwire.edge_client.link.resumable.download`, from this client's coordinator."""

    def __call__(self, digest: bytes, size: int | None, *, most: int = ..., kind: str = ...) -> bytes: ...


class Receiving:
    """`own_first`: make the run's first model instead of downloading it, where it is this client's own; `size_bytes`:
    what all decoded arrays of a task may hold.
    """

    def __init__(
        self, fetch: Fetch, folder: Folder, learner: Turns, *, say: Say, own_first: bool, size_bytes: int
    ) -> None:
        self._fetch = fetch
        self._folder = folder
        self._learner = learner
        self._say = say
        self._own_first = own_first
        self._size_bytes = size_bytes
        self._spec = spec_digest(learner.spec)
        self._tried: set[tuple[str, str]] = set()
        self._plans: dict[bytes, CheckedPlan] = {}

    def plan(self, digest: bytes) -> CheckedPlan:
        """The plan of this digest, kept on disk. Raises: `TaskRefusedError`, and what `fetch` raises."""
        if digest not in self._plans:
            kept = self._folder.plan(digest)
            body = kept
            if body is None:
                try:
                    body = self._fetch(digest, None, most=MAX_PLAN_BYTES, kind="plans")
                except ProblemError as error:
                    if error.reason != "digest-mismatch":
                        raise
                    raise TaskRefusedError(error.reason, f"of the plan: {error.detail}") from None
            with self._learner.turn() as learner:
                checked = check_plan(body, digest, self._spec, learner.frozen, self._size_bytes)
                check_needs(checked.half, learner, checked.message.method)
            self._plans[digest] = checked
            if kept is None:
                self._folder.keep_plan(digest, body)
        return self._plans[digest]

    def parts(self, message: TaskMessage, checked: CheckedPlan, memory: RunMemory) -> dict[str, Arrays]:
        """The decoded parts, kept on disk before the work begins: they are not fetched twice.

        Raises: `TaskRefusedError`, `PartsLostError`, `CodecError`, and what `fetch` raises.
        """
        names = list(checked.parts)
        if not len(names) <= len(message.parts) <= len(names) + 1:
            raise TaskRefusedError("run-invalid", f"{len(message.parts)} parts where the plan names {len(names)}")
        try:
            base = memory.parts() if any(part.form != "full" for part in message.parts) else {}
        except (TornRecordError, FileNotFoundError) as error:
            raise PartsLostError(str(error)) from None
        seed = broadcast_seed(checked.message.seed, message.round, message.step)
        chains = checked.chains(message.round)
        parts: dict[str, Arrays] = {}
        for name, part in zip(names, message.parts, strict=False):
            spec = checked.parts[name]
            if part.form == "full":
                payload = self._own_payload(name, part, checked, chains, seed)
                if payload is None:
                    payload = self._payload(part, chains.whole.bound(spec).max_payload_bytes)
                parts[name] = receive(payload, spec, chains, seed=seed)
            elif name not in base or not _fits(spec, base[name]):
                raise TaskRefusedError("run-invalid", f"part {name!r} builds on one that this client does not hold")
            elif part.form == "held":
                parts[name] = base[name]
            else:
                payload = self._payload(part, chains.down.bound(spec).max_payload_bytes)
                parts[name] = receive(payload, spec, chains, base=base[name], seed=seed)
        if memory.state.held != message.exchange:
            memory.hold(message.exchange, parts)
        if len(message.parts) > len(names):
            parts[PRIVATE] = self._private(message, checked)
        return parts

    def _private(self, message: TaskMessage, checked: CheckedPlan) -> dict[str, Array]:
        part = message.parts[-1]
        if part.spec is None or part.form != "full":
            raise TaskRefusedError("run-invalid", "a private part comes whole and with its spec")
        spec = Spec.from_plain(part.spec)
        if spec.max_bytes > self._size_bytes:
            raise TaskRefusedError("run-invalid", f"a private part of {spec.max_bytes} bytes")
        seed = client_seed(checked.message.seed, message.round, message.step, self._learner.name)
        chain = checked.chains(message.round).private
        payload = self._payload(part, chain.bound(spec).max_payload_bytes)
        return chain.decode(payload, spec, seed=seed)

    def _own_payload(
        self, name: str, part: PartMessage, checked: CheckedPlan, chains: Chains, seed: int
    ) -> bytes | None:
        """The payload of a part that holds arrays of this client's own first model, which then need not travel: what
        their encoding gives is what was announced, to the digest. Tried once, since later ones are of trained models.
        """
        run = checked.message.run
        if not self._own_first or part.digest is None or (run, name) in self._tried:
            return None
        self._tried.add((run, name))
        with self._learner.turn() as learner:
            payload = first_payload(learner, checked.parts[name], chains, seed)
        if payload is None or digest_of(payload) != part.digest:
            return None
        self._say(f"{name}: as this client's own first model has it; {in_bytes(len(payload))} need not travel")
        return payload

    def _payload(self, part: PartMessage, most: int) -> bytes:
        if part.inline is not None:
            return part.inline
        if part.digest is None or part.size is None or part.size > most:
            raise TaskRefusedError("run-invalid", f"a part of {part.size} bytes; its spec allows {most}")
        return self._fetch(part.digest, part.size)


def _fits(spec: Spec, arrays: Arrays) -> bool:
    """Whether a part that is held is one of this spec, whose dimensions may be open."""
    try:
        spec.check(arrays)
    except CodecError:
        return False
    return list(spec) == list(arrays)
