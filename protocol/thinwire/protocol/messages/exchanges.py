"""The way of an exchange: registration, task, plan, answer, verdict."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from thinwire.protocol.fields import Count, Digest, Id, Inline, Message, Metrics, Pair, Plain, SpecDigest, Verdict
from thinwire.protocol.reasons import WIRE_VERSION


class Registration(Message):
    """`POST /v1/registrations?wait_s=`: ready for the next task of any run this client may serve.

    `spec`: first 8 bytes of the digest of the client's own model spec (`spec_digest`); without it any run will do.
    `holds`: run id -> the `exchange` of the last task whose parts this client still has, so that it gets deltas.
    `process`: drawn by each process of a client, so that two of them at a time are told apart from one that begins
    again. `start`: how many processes of the client's folder have begun, this one included, until one of them has been
    heard: a copy of the folder, or one put back from a backup, says a number that has been said before. `software`: its
    version, until a process has been heard.
    """

    wire: int = WIRE_VERSION
    spec: SpecDigest | None = None
    holds: dict[Id, Count] | None = Field(None, max_length=16)
    process: Id | None = None
    start: Count | None = None
    software: str | None = Field(None, max_length=32)


class PartMessage(Message):
    """One part of a task, in the order of the plan's parts, the private one last.

    `form`: "full"; "delta", against the part of the same name that the client holds; "held", nothing to fetch:
    the client has it. The payload is inline, or fetched by `digest`. `spec` only with the private part.
    """

    form: Literal["full", "delta", "held"] = "full"
    inline: Inline | None = None
    digest: Digest | None = None
    size: Count | None = None
    spec: Plain | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = (self.inline is not None) + (self.digest is not None)
        if sources != (self.form != "held") or (self.size is None) != (self.digest is None):
            raise ValueError("a part is held, or inline, or has a digest and a size")
        return self


class TaskMessage(Message):
    """One exchange as one client sees it. `exchange` counts within the run from 0; `deadline_s` from now on.

    `dropped`: the client's last task in this run, whose accepted answer does not count any more: what the client
    remembers is again what it remembered before that answer.
    """

    task: Id
    run: Id
    plan: Digest
    exchange: Count
    round: Count
    step: Count
    options: dict[str, bool | int | float | str] | None = None
    parts: list[PartMessage] = Field(max_length=4096)
    deadline_s: float | None = Field(None, ge=0)
    dropped: Id | None = None


class ChainsMessage(Message):
    """Chains as lists of `{"name", "configuration"}`."""

    down: list[Plain]
    up: list[Plain]
    full: list[Plain]
    private: list[Plain]


class Plan(Message):
    """What is constant for a run and kind of exchange; named by the digest of its msgpack form, fetched once.

    `parts` and `reply`: specs (`Spec.to_plain`). `seed`: the run's. `model`: the first 8 bytes of the digest of the
    run's model spec, None where every client may have a model of its own. `frozen`: marks of what does not travel of
    it, where the run knows them.
    """

    wire: int = WIRE_VERSION
    run: Id
    method: str
    settings: Plain
    kind: str
    seed: Count
    rounds: Count
    parts: dict[str, Plain]
    reply: Plain
    chains: ChainsMessage
    max_examples: Count
    model: SpecDigest | None = None
    frozen: list[str] | None = Field(None, max_length=16)


class AnswerMessage(Message):
    """`POST /v1/tasks/{task}/answer`. The payload is inline, or the id of a finished upload; none for an empty reply.

    `received`: the payload's digest in its place, where the same answer may have arrived already. `link`:
    bytes that the client has sent and received since it enrolled, as its kernel counts them, before this message.
    """

    examples: Count
    metrics: Metrics = Field(default_factory=dict)
    payload: Inline | None = None
    upload: Id | None = None
    received: Digest | None = None
    link: Pair | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.payload, self.upload, self.received)) > 1:
            raise ValueError("the payload is inline, or an upload, or received: one of them")
        return self


class VerdictMessage(Message):
    """What became of an answer. `next`: the client's next task where one is open already."""

    verdict: Verdict
    detail: str | None = None
    next: TaskMessage | None = None


class DeclineMessage(Message):
    """`POST /v1/tasks/{task}/decline`. `detail`: why, for the operator; nothing of the data belongs there."""

    detail: str = Field(max_length=300)
