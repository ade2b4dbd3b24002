"""Every control message, as pydantic models: strict, unknown keys refused, no NaN.

Field names are the keys on the wire. Bytes are bytes in msgpack and lower-case hex in JSON; inline payloads
exist only in msgpack. Fields that are None are not written.
"""

from __future__ import annotations

from typing import Final, Literal, Self, get_args

from pydantic import Field, model_validator

from .fields import (
    MAX_INLINE_BYTES as MAX_INLINE_BYTES,
)
from .fields import (
    Count,
    Digest,
    Id,
    Inline,
    Message,
    Metrics,
    Name,
    Pair,
    Plain,
    Role,
    RunOutcome,
    RunState,
    SpecDigest,
    Token,
    Verdict,
)
from .reasons import WIRE_VERSION
from .settings import RunSettings

MAX_MESSAGE_BYTES: Final = 1 << 18
"""No control message, its inline payloads included, is larger."""


class Problem(Message):
    """The one shape of every error. `reason`: of the closed table; `model`: the final model (`run-finished`)."""

    reason: str
    detail: str
    retry: bool
    model: Digest | None = None


# -- enrolment ------------------------------------------------------------------------------------------------


class Enrolment(Message):
    """`POST /v1/clients`: who wants in. `name`: the client's stable name; None takes the invite's or a free one."""

    invite: str = Field(min_length=1, max_length=200)
    name: Name | None = None


class Enrolled(Message):
    """The answer, also to `POST /v1/clients/{name}/token`: the name in force and the token to send with every further
    request.
    """

    client: Name
    token: Token
    group: Name
    role: Role


class InviteRequest(Message):
    """`POST /v1/invites`, by an operator. `uses`: how many clients may enrol with it."""

    group: Name = "default"
    role: Role = "client"
    uses: int = Field(1, ge=1, le=1_000_000)
    expires_in_s: float | None = Field(None, gt=0)


class Invite(Message):
    """A new invite; the code is shown once and stored hashed."""

    invite: str
    group: Name
    role: Role
    uses: int


class OperatorToken(Message):
    """`POST /v1/operator/token`, by whoever has the one it replaces; shown once and stored in the data folder."""

    token: Token


class ClientView(Message):
    """A client as operators see it. `seen_at`: of its last request, Unix seconds."""

    client: Name
    group: Name
    role: Role
    revoked: bool = False
    seen_at: float | None = None


class ClientList(Message):
    """`GET /v1/clients`, by an operator, by name."""

    clients: list[ClientView]


# -- exchanges ------------------------------------------------------------------------------------------------


class Registration(Message):
    """`POST /v1/registrations?wait_s=`: ready for the next task of any run this client may serve.

    `spec`: first 8 bytes of the digest of the client's own model spec (`spec_digest`); without it any run will do.
    `holds`: run id -> the `exchange` of the last task whose parts this client still has, so that it gets deltas.
    """

    wire: int = WIRE_VERSION
    spec: SpecDigest | None = None
    holds: dict[Id, Count] | None = Field(None, max_length=16)


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
    """One exchange as one client sees it. `exchange` counts within the run from 0; `deadline_s` from now on."""

    task: Id
    run: Id
    plan: Digest
    exchange: Count
    round: Count
    step: Count
    options: dict[str, bool | int | float | str] | None = None
    parts: list[PartMessage] = Field(max_length=4096)
    deadline_s: float | None = Field(None, ge=0)


class ChainsMessage(Message):
    """Chains as lists of `{"name", "configuration"}`."""

    down: list[Plain]
    up: list[Plain]
    full: list[Plain]
    private: list[Plain]


class Plan(Message):
    """What is constant for a run and kind of exchange; named by the digest of its msgpack form, fetched once.

    `parts` and `reply`: specs (`Spec.to_plain`). `seed`: the run's. `model`: the first 8 bytes of the digest of the
    run's model spec, None where every client may have a model of its own.
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


class AnswerMessage(Message):
    """`POST /v1/tasks/{task}/answer`. The payload is inline, or the id of a finished upload; none for an empty reply.

    `link`: the client's cumulative bytes sent and received as its kernel counts them.
    """

    examples: Count
    metrics: Metrics = Field(default_factory=dict)
    payload: Inline | None = None
    upload: Id | None = None
    link: Pair | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.payload is not None and self.upload is not None:
            raise ValueError("the payload is inline or an upload, not both")
        return self


class VerdictMessage(Message):
    """What became of an answer. `next`: the client's next task where one is open already."""

    verdict: Verdict
    detail: str | None = None
    next: TaskMessage | None = None


class DeclineMessage(Message):
    """`POST /v1/tasks/{task}/decline`. `detail`: why, for the operator; nothing of the data belongs there."""

    detail: str = Field(max_length=300)


# -- runs -----------------------------------------------------------------------------------------------------


class StoredModel(Message):
    """The answer to `POST /v1/models`, whose body is a safetensors file: what the runs to come call it."""

    digest: Digest
    parameters: Count


class RunRequest(Message):
    """`POST /v1/runs`, by an operator. `model`: the digest of a stored model, whose arrays the run starts from."""

    settings: RunSettings
    model: Digest


class RunView(Message):
    """A run as operators see it. `reason`: why it is paused or has failed. `warnings`: what its method says about
    these settings. Times are Unix seconds.
    """

    id: Id
    name: str
    method: str
    state: RunState
    outcome: RunOutcome | None = None
    reason: str | None = None
    round: Count
    step: Count
    rounds: Count
    exchange: Count
    answers: Count
    cohort: Count
    parameters: Count
    model: Digest | None = None
    created_at: float
    finished_at: float | None = None
    warnings: list[str] | None = None
    settings: Plain


class RunList(Message):
    """`GET /v1/runs`, the newest first."""

    runs: list[RunView]


class RunCommand(Message):
    """`POST /v1/runs/{run}/pause | resume | stop`. `open`: whether the open exchange is finished first or dropped."""

    open: Literal["finish", "drop"] = "finish"


class ExchangeMetrics(Message):
    """One closed exchange. `metrics`: example-weighted means over the answers; accuracy and loss are of the arrays that
    the exchange broadcast. Byte counts are wire bytes of this run: of this exchange, the payload among them, and of all
    up to when its broadcast was complete (`*_before`): where its accuracy is plotted.
    """

    exchange: Count
    round: Count
    step: Count
    kind: str
    answers: Count
    offers: Count
    metrics: dict[str, float]
    seconds: float
    uplink_bytes: Count
    downlink_bytes: Count
    uplink_payload_bytes: Count
    downlink_payload_bytes: Count
    uplink_bytes_before: Count
    downlink_bytes_before: Count


class RunMetrics(Message):
    """`GET /v1/runs/{run}/metrics`, in order."""

    exchanges: list[ExchangeMetrics]


LedgerKind = Literal["connect", "enrol", "register", "plan", "payload", "answer", "evaluate", "idle", "other"]
LEDGER_KINDS: Final[tuple[LedgerKind, ...]] = get_args(LedgerKind)


class LedgerRow(Message):
    """Bytes of one client x exchange x kind, both directions. Empty strings and None: nobody or no exchange owns them.

    Framing is everything that is not payload: request and status lines, headers, control messages. `resumed_bytes`:
    payload that did not cross again, summed over the requests that went on where an interrupted one had stopped.
    """

    run: str
    client: str
    exchange: Count | None = None
    round: Count | None = None
    step: Count | None = None
    kind: LedgerKind
    requests: Count
    uplink_payload_bytes: Count
    uplink_framing_bytes: Count
    downlink_payload_bytes: Count
    downlink_framing_bytes: Count
    resumed_bytes: Count
    seconds: float


class LinkRow(Message):
    """What a client's own kernel counted, as it last reported, beside the coordinator's transport count."""

    client: str
    sent_bytes: Count
    received_bytes: Count
    uplink_bytes: Count
    downlink_bytes: Count


class Ledger(Message):
    """`GET /v1/runs/{run}/ledger`."""

    rows: list[LedgerRow]
    links: list[LinkRow]
