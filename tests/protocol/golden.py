"""Golden messages: written once, read for ever. `python -m tests.protocol.golden` adds those that are missing.

`tests/protocol/vectors/messages.json` maps the name of a kind to its msgpack body in hex and its JSON body as text; it
is what a client in another language is tested against.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from thinwire.protocol import messages as m
from thinwire.protocol.encoding import JSON, encode_message
from thinwire.protocol.settings import RunSettings

VECTORS: Final = Path(__file__).parent / "vectors" / "messages.json"
_DIGEST: Final = bytes(range(32))


def samples() -> list[m.Message]:
    """One message of each kind, every field set that JSON can say."""
    part = m.PartMessage(form="delta", digest=_DIGEST, size=70_000, spec={"private": ["f32", [{"max": 9}, 2], True]})
    task = m.TaskMessage(
        task="task01", run="run001", plan=_DIGEST, exchange=300, round=5, step=1,
        options={"lr": 0.05, "last": False, "epochs": 2, "rule": "cosine"},
        parts=[m.PartMessage(form="held"), part], deadline_s=12.5,
    )  # fmt: skip
    codec = {"name": "zstd", "configuration": {"level": 9}}
    chains = m.ChainsMessage(down=[{"name": "delta"}, codec], up=[codec], full=[], private=[codec])
    client = m.ClientView(client="client-00", group="default", role="client", revoked=True, seen_at=1.7e9)
    invite = m.InviteView(invite="0123abcd", group="ward", role="evaluator", uses_left=4, expires_at=1.7e9)
    run = m.RunView(
        id="run001", name="night", method="fedavg", state="finished", outcome="completed", reason="done", round=10,
        step=0, rounds=10, exchange=11, answers=8, cohort=8, parameters=4810, model=_DIGEST, created_at=1.7e9,
        finished_at=1.7e9 + 60, warnings=["it drifts"], settings={"rounds": 10},
    )  # fmt: skip
    exchange = m.ExchangeMetrics(
        exchange=0, round=1, step=0, kind="train", answers=8, offers=1, metrics={"accuracy": 0.5}, seconds=1.25,
        uplink_bytes=1, downlink_bytes=2, uplink_payload_bytes=1, downlink_payload_bytes=2,
        uplink_bytes_before=4, downlink_bytes_before=5,
    )  # fmt: skip
    absence = m.Absence(client="client-07", why="asked, and gone since")
    attendance = m.Attendance(
        exchange=0, round=1, step=0, kind="train", counted=7, asked=8, absent=[absence], said="7 of 8 count",
    )  # fmt: skip
    problem = m.ProblemView(
        kind="disk", severity="error",
        said="the disk is full", cure="make room", since=1.7e9, run="night", client="client-00", command="df",
    )  # fmt: skip
    row = m.LedgerRow(
        run="run001", client="client-00", exchange=0, round=1, step=0, kind="answer", requests=2,
        uplink_payload_bytes=1, uplink_framing_bytes=2, downlink_payload_bytes=3, downlink_framing_bytes=4,
        resumed_bytes=5, seconds=0.5,
    )  # fmt: skip
    link = m.LinkRow(client="client-00", sent_bytes=1, received_bytes=2, uplink_bytes=3, downlink_bytes=4)
    waiting = m.PendingView(
        code="7K3M-0QXZ",
        name="client-00",
        says="the one in ward 3",
        address="192.0.2.7",
        asked_at=1.7e9,
        heard_at=1.7e9,
    )
    webhook = m.WebhookView(
        webhook="hook01", url="https://desk.example/hear", kinds=["exchange", "run"], run="night", last=40, failures=2,
        said="it answered 503", next_at=1.7e9,
    )  # fmt: skip
    return [
        m.Problem(reason="run-finished", detail="The run is over.", retry=False, model=_DIGEST),
        m.Enrolment(invite="invite", name="client-00"),
        m.Enrolled(client="client-00", token="token", group="default", role="client"),  # noqa: S106
        m.InviteRequest(group="ward", role="evaluator", uses=5, expires_in_s=3600.0),
        m.Invite(invite="invite", group="ward", role="evaluator", uses=5),
        invite,
        m.InviteList(invites=[invite]),
        m.TokenRequest(nonce=bytes(range(16))),
        m.OperatorToken(token="token"),  # noqa: S106
        client,
        m.ClientList(clients=[client]),
        m.LogLine(at=1.7e9, said="refused: answer-invalid"),
        m.ClientLog(client="client-00", lines=[m.LogLine(at=1.7e9, said="ends")], received_at=1.7e9),
        m.ClientLabel(label="ward-3"),
        m.PendingRequest(invite=_DIGEST, name="client-00", says="the one in ward 3"),
        m.PendingAnswer(state="pending", code="7K3M-0QXZ"),
        waiting,
        m.PendingList(pending=[waiting]),
        m.AcceptRequest(group="ward", role="evaluator"),
        m.Registration(spec=_DIGEST[:8], holds={"run001": 299}),
        part,
        task,
        chains,
        m.Plan(
            run="run001", method="fedavg", settings={"lr": 0.1, "decay": None}, kind="train", seed=7, rounds=10,
            parts={"model": {"w": ["f32", [2, 3]]}}, reply={"w": ["f32", [2, 3]]}, chains=chains,
            max_examples=65536, model=_DIGEST[:8],
        ),
        m.AnswerMessage(examples=180, metrics={"loss": 0.5, "mine": -1.0}, upload="upload01", link=(1 << 40, 9)),
        m.VerdictMessage(verdict="accepted", detail="counted", next=task),
        m.DeclineMessage(detail="training diverges"),
        m.StoredModel(digest=_DIGEST, parameters=4810),
        m.RunRequest(settings=RunSettings(rounds=3, chains={"*": {"up": "zstd"}}), model=_DIGEST),  # type: ignore[dict-item]
        m.BestModel(score="f1", value=0.75, round=7),
        run,
        m.RunList(runs=[run]),
        m.RunCommand(open="drop"),
        m.RunChange(rounds=20, quorum=6, deadline_s=60.0, max_bytes=1 << 30),
        absence,
        m.Came(client="client-03", staleness=2),
        attendance,
        m.AttendanceList(exchanges=[attendance]),
        problem,
        m.ProblemList(problems=[problem]),
        exchange,
        m.RunMetrics(exchanges=[exchange]),
        row,
        link,
        m.Ledger(rows=[row], links=[link]),
        m.WebhookRequest(url="https://desk.example/hear", kinds=["run", "exchange"], run="night"),
        m.Webhook(webhook="hook01", secret="whsec_", url="https://desk.example/hear", kinds=["run"], run="night"),  # noqa: S106
        webhook,
        m.WebhookList(webhooks=[webhook]),
        m.WebhookTested(taken=False, said="it answered 503"),
    ]  # fmt: skip


if __name__ == "__main__":
    found: dict[str, Any] = json.loads(VECTORS.read_text()) if VECTORS.exists() else {}
    for message in samples():
        bodies = {"msgpack": encode_message(message).hex(), "json": encode_message(message, JSON).decode()}
        found.setdefault(type(message).__name__, bodies)
    VECTORS.parent.mkdir(exist_ok=True)
    VECTORS.write_text(json.dumps(found, indent=1) + "\n")
