"""Plans as the client takes them: checked against its own model and limits before anything is fetched for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from thinwire.codecs import Chain, CodecError, Spec
from thinwire.methods.chains import Chains
from thinwire.methods.client_half import ClientHalf, client_half
from thinwire.methods.frozen_parts import Digests, first_difference
from thinwire.methods.registry import find_method
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.encoding import decode_message
from thinwire.protocol.identity import digest_of
from thinwire.protocol.messages import Plan
from thinwire.protocol.reasons import ProblemError

MAX_PLAN_BYTES: Final = 1 << 22
"""A plan names every array of a model: more than other messages, and still far from this."""
# What settings have no business with: an address, a path, a line of code.
_SUSPECT: Final = re.compile(r"://|^[~/]|\.\.[/\\]|^[A-Za-z]:\\|\n")


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """A plan this client can follow. `parts` in the order of the wire; `written`: its chains, as it has them."""

    message: Plan
    half: ClientHalf[Any]
    parts: dict[str, Spec]
    reply: Spec
    written: Chains

    def chains(self, round_: int) -> Chains:
        """Those in force in a round."""
        return self.written.at(round_, self.message.rounds)


def check_plan(body: bytes, digest: bytes, own: bytes, frozen: Digests, max_task_bytes: int) -> CheckedPlan:
    """`own`: the digest of this client's model spec; `frozen`: of what does not travel of the model; `max_task_bytes`:
    what parts and answer may hold in all, decoded.

    Raises: `TaskRefusedError`.
    """
    if digest_of(body) != digest:
        raise TaskRefusedError("digest-mismatch", "the plan does not have the digest that the task names")
    try:
        plan = decode_message(Plan, body, max_bytes=MAX_PLAN_BYTES)
        method = find_method(plan.method)
        settings = method.settings.model_validate(plan.settings)
        parts = {name: Spec.from_plain(plain) for name, plain in plan.parts.items()}
        reply = Spec.from_plain(plan.reply)
        chains = Chains(*(Chain.from_plain(getattr(plan.chains, name)) for name in ("down", "up", "full", "private")))
    except KeyError as error:
        raise TaskRefusedError("run-invalid", str(error.args[0])) from None
    except ProblemError as error:
        reason = error.reason if error.reason == "wire-version" else "run-invalid"
        raise TaskRefusedError(reason, f"the plan cannot be read: {error.detail}") from None
    except (ValidationError, CodecError) as error:
        raise TaskRefusedError("run-invalid", f"the plan cannot be followed: {error}") from None
    if plan.model is not None and plan.model != own:
        raise TaskRefusedError("model-mismatch", "the run's model is not this client's; use the task file of the run")
    if plan.frozen is not None and (which := first_difference(frozen, plan.frozen)):
        raise TaskRefusedError(
            "model-mismatch",
            f"what does not travel of the model is not the run's: {which}. Use the same --seed, and the same file or "
            "version of pretrained weights; a run with frozen=any takes clients that differ",
        )
    suspect = _suspect(plan.settings)
    if suspect is not None:
        raise TaskRefusedError("run-invalid", f"a setting names {suspect!r}; plans name no paths, code or addresses")
    size = sum(spec.max_bytes for spec in parts.values()) + reply.max_bytes
    if size > max_task_bytes:
        raise TaskRefusedError(
            "run-invalid", f"the task takes {size} bytes of arrays; this client allows {max_task_bytes}"
        )
    return CheckedPlan(plan, client_half(plan.method)(settings), parts, reply, chains)


def _suspect(value: object) -> str | None:
    if isinstance(value, str):
        return value if _SUSPECT.search(value) else None
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for item in inner if (found := _suspect(item)) is not None), None)
