"""What the wire has cost."""

from __future__ import annotations

from typing import Final, Literal, get_args

from thinwire.protocol.fields import Count, Message

LedgerKind = Literal[
    "connect", "enrol", "register", "plan", "payload", "answer", "evaluate", "idle", "other", "unaccounted"
]
LEDGER_KINDS: Final[tuple[LedgerKind, ...]] = get_args(LedgerKind)


class LedgerRow(Message):
    """Bytes of one client x exchange x kind, both directions. Empty strings and None: nobody or no exchange owns them.

    Framing is everything that is not payload: request and status lines, headers, control messages. `resumed_bytes`:
    payload that did not cross again, summed over the requests that went on where an interrupted one had stopped.

    The kind `unaccounted` is what the client's own kernel had counted, when the client last answered, beyond all that
    the coordinator had: what a killed coordinator forgot, and what only the client's side of a proxy carries. Nobody
    knows what it was, so all of it is framing, of no run.
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
    """What a client's own kernel counted, as it last reported, beside the coordinator's transport count, which is all
    of its rows but those of the kind `unaccounted`.
    """

    client: str
    sent_bytes: Count
    received_bytes: Count
    uplink_bytes: Count
    downlink_bytes: Count


class Ledger(Message):
    """`GET /v1/runs/{run}/ledger`."""

    rows: list[LedgerRow]
    links: list[LinkRow]
