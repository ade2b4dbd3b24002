"""How a device without an invite asks to be let in, and what an operator sees of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from thinwire.protocol.fields import Digest, Message, Name, ShortCode

PendingState = Literal["pending", "accepted", "refused"]


class PendingRequest(Message):
    """`POST /v1/pending?wait_s=`: a device without an invite asks to be let in, and asks again to hear what came of it.

    `invite`: SHA-256 of an invite that the device has drawn for itself and keeps: as text, of 128 random bits or more.
    Once an operator has accepted, that invite is in force for one use, and the device enrols with it as with any.
    `name`: what it will ask to be called; `says`: what it says of itself to the operator.
    """

    invite: Digest
    name: Name
    says: str = Field("", max_length=200)


class PendingAnswer(Message):
    """What has come of it. `code`: what the device shows and the operator compares, while it is pending."""

    state: PendingState
    code: ShortCode | None = None


class PendingView(Message):
    """A device that waits to be let in, as operators see it. What it says of itself proves nothing: the code does.

    `address`: where it asks from; `asked_at`, `heard_at`: first and last, Unix seconds.
    """

    code: ShortCode
    name: Name
    says: str
    address: str
    asked_at: float
    heard_at: float


class PendingList(Message):
    """`GET /v1/pending`, by an operator or a reader, the longest waiting first."""

    pending: list[PendingView]


class AcceptRequest(Message):
    """`POST /v1/pending/{code}`, by an operator: the device may enrol, once, within a day. People come by invites."""

    group: Name = "default"
    role: Literal["client", "evaluator"] = "client"
