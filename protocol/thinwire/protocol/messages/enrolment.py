"""How clients get in, and what an operator sees of them."""

from __future__ import annotations

from pydantic import Field

from thinwire.protocol.fields import Message, Name, Nonce, Role, Token


class Enrolment(Message):
    """`POST /v1/clients`: who wants in. `name`: the client's stable name; None takes the invite's or a free one.

    `nonce`: a secret drawn for this enrolment alone: the same request, doubled on the way or sent again, gets the same
    answer. Without it each gets another token, and the one before is worth nothing.
    """

    invite: str = Field(min_length=1, max_length=200)
    name: Name | None = None
    nonce: Nonce | None = None


class TokenRequest(Message):
    """`POST /v1/clients/{name}/token`. `nonce`: as in an enrolment."""

    nonce: Nonce | None = None


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


class InviteView(Message):
    """An invite as operators see it. `invite`: the first digits of its hash, which name it; `uses_left`: how many more
    clients may enrol with it; `expires_at`: Unix seconds.
    """

    invite: str
    group: Name
    role: Role
    uses_left: int
    expires_at: float | None = None


class InviteList(Message):
    """`GET /v1/invites`, by an operator or a reader: those that have not expired; used-up ones too."""

    invites: list[InviteView]


class OperatorToken(Message):
    """`POST /v1/operator/token`, by whoever has the one it replaces; shown once and stored in the data folder."""

    token: Token


class ClientLabel(Message):
    """`POST /v1/clients/{name}`, by an operator: what people call the client from now on, no other client's name or
    label; None: its name. The name itself stays: its token, its share of the data and the ledger are bound to it.
    """

    label: Name | None = None


class ClientView(Message):
    """A client as operators see it. `seen_at`: of its last request, Unix seconds; `label`: what people call it, where
    that is not its name.
    """

    client: Name
    group: Name
    role: Role
    revoked: bool = False
    seen_at: float | None = None
    label: Name | None = None


class ClientList(Message):
    """`GET /v1/clients`, by an operator or a reader, by name."""

    clients: list[ClientView]


class LogLine(Message):
    """One line that a client has said. `at`: Unix seconds by the client's clock."""

    at: float
    said: str


class ClientLog(Message):
    """`GET /v1/clients/{name}/log`, by an operator or a reader: the latest lines that the client has sent, in order, at
    most 200. `received_at`: when the last of them came, Unix seconds.
    """

    client: Name
    lines: list[LogLine]
    received_at: float | None = None
