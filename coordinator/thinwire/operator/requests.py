"""The requests that people and their programs make, as values: what is sent, what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from thinwire.protocol.fields import EventKind, Role
from thinwire.protocol.messages import (
    AcceptRequest,
    AttendanceList,
    ClientLabel,
    ClientList,
    ClientLog,
    Invite,
    InviteList,
    InviteRequest,
    Ledger,
    OperatorToken,
    PendingList,
    PendingView,
    RunChange,
    RunCommand,
    RunList,
    RunMetrics,
    RunRequest,
    RunView,
    Webhook,
    WebhookList,
    WebhookRequest,
    WebhookTested,
)
from thinwire.protocol.settings import RunSettings

MessageT = TypeVar("MessageT", bound=BaseModel)
Open = Literal["finish", "drop"]
Command = Literal["pause", "resume", "stop"]
MODELS = "/v1/models"


@dataclass(frozen=True, slots=True)
class Request(Generic[MessageT]):
    """`gives`: the message that comes back."""

    method: str
    path: str
    gives: type[MessageT]
    body: BaseModel | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A request that gives nothing back."""

    method: str
    path: str


def run_path(run: str, what: str = "") -> str:
    """Of a run, by name or id."""
    return f"/v1/runs/{quote(run, safe='')}{what}"


def model_path(run: str, best: str | None = None) -> str:
    """Of a run's model as it stands, or of its best one by this score; "" for the first that the run keeps."""
    return run_path(run, "/model" if best is None else f"/model?best={quote(best, safe='')}")


def runs() -> Request[RunList]:
    return Request("GET", "/v1/runs", RunList)


def run(key: str) -> Request[RunView]:
    return Request("GET", run_path(key), RunView)


def metrics(key: str) -> Request[RunMetrics]:
    return Request("GET", run_path(key, "/metrics"), RunMetrics)


def attendance(key: str) -> Request[AttendanceList]:
    return Request("GET", run_path(key, "/attendance"), AttendanceList)


def ledger(key: str, sums: Literal["client", "kind"] | None) -> Request[Ledger]:
    return Request("GET", run_path(key, "/ledger" if sums is None else f"/ledger?sums={sums}"), Ledger)


def create_run(settings: RunSettings, model: bytes) -> Request[RunView]:
    return Request("POST", "/v1/runs", RunView, RunRequest(settings=settings, model=model))


def command(key: str, word: Command, open_: Open) -> Request[RunView]:
    return Request("POST", run_path(key, f"/{word}"), RunView, RunCommand(open=open_))


def change(key: str, wanted: RunChange) -> Request[RunView]:
    return Request("POST", run_path(key, "/settings"), RunView, wanted)


def delete_run(key: str) -> Order:
    return Order("DELETE", run_path(key))


def invite(role: Role, group: str, uses: int, expires_in_s: float | None) -> Request[Invite]:
    body = InviteRequest(role=role, group=group, uses=uses, expires_in_s=expires_in_s)
    return Request("POST", "/v1/invites", Invite, body)


def invites() -> Request[InviteList]:
    return Request("GET", "/v1/invites", InviteList)


def void(digits: str) -> Order:
    return Order("DELETE", f"/v1/invites/{quote(digits, safe='')}")


def clients() -> Request[ClientList]:
    return Request("GET", "/v1/clients", ClientList)


def client_log(name: str) -> Request[ClientLog]:
    return Request("GET", f"/v1/clients/{quote(name, safe='')}/log", ClientLog)


def revoke(name: str, *, with_invite: bool) -> Order:
    return Order("DELETE", f"/v1/clients/{quote(name, safe='')}{'?invite=true' if with_invite else ''}")


def delete_client(name: str) -> Order:
    return Order("DELETE", f"/v1/clients/{quote(name, safe='')}/record")


def rename(name: str, label: str | None) -> Request[ClientLabel]:
    return Request("POST", f"/v1/clients/{quote(name, safe='')}", ClientLabel, ClientLabel(label=label))


def pending() -> Request[PendingList]:
    return Request("GET", "/v1/pending", PendingList)


def accept(code: str, group: str, role: Literal["client", "evaluator"]) -> Request[PendingView]:
    body = AcceptRequest(group=group, role=role)
    return Request("POST", f"/v1/pending/{quote(code, safe='')}", PendingView, body)


def refuse(code: str) -> Order:
    return Order("DELETE", f"/v1/pending/{quote(code, safe='')}")


def rotate_operator_token() -> Request[OperatorToken]:
    return Request("POST", "/v1/operator/token", OperatorToken)


def add_webhook(url: str, kinds: Sequence[EventKind], run: str | None) -> Request[Webhook]:
    return Request("POST", "/v1/webhooks", Webhook, WebhookRequest(url=url, kinds=list(kinds), run=run))


def webhooks() -> Request[WebhookList]:
    return Request("GET", "/v1/webhooks", WebhookList)


def remove_webhook(webhook: str) -> Order:
    return Order("DELETE", f"/v1/webhooks/{quote(webhook, safe='')}")


def test_webhook(webhook: str) -> Request[WebhookTested]:
    return Request("POST", f"/v1/webhooks/{quote(webhook, safe='')}/test", WebhookTested)
