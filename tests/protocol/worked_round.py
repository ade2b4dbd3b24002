"""One round of one client, message by message: what `protocol/README.md` shows in bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thinwire.codecs import Chain, Spec
from thinwire.protocol.encoding import encode_message, spec_digest
from thinwire.protocol.identity import digest_of
from thinwire.protocol.messages import (
    AnswerMessage,
    ChainsMessage,
    Enrolled,
    Enrolment,
    PartMessage,
    Plan,
    Registration,
    TaskMessage,
    VerdictMessage,
)


@dataclass(frozen=True, slots=True)
class Step:
    """`request` and `answer`: start lines; a body is empty where there is none."""

    what: str
    request: str
    request_body: bytes
    answer: str
    answer_body: bytes


def worked_round() -> list[Step]:
    """A model of three numbers, raw arrays in both directions."""
    model = {"w": np.array([[0.5, -2.0]], "f4"), "b": np.array([1.0], "f4")}
    update = {"w": np.array([[0.25, 0.5]], "f4"), "b": np.array([-0.125], "f4")}
    spec = Spec.of(model)
    bare = Chain()
    plan = encode_message(
        Plan(
            run="r4nd0m",
            method="fedavg",
            settings={"local-epochs": 1, "lr": 0.1},
            kind="train",
            seed=7,
            rounds=10,
            parts={"model": spec.to_plain()},
            reply=spec.to_plain(),
            chains=ChainsMessage(down=[], up=[], full=[], private=[]),
            max_examples=65536,
            model=spec_digest(spec),
        )
    )
    task = TaskMessage(
        task="t4sk00",
        run="r4nd0m",
        plan=digest_of(plan),
        exchange=0,
        round=1,
        step=0,
        parts=[PartMessage(inline=bare.encode(model, spec))],
        deadline_s=600.0,
    )
    answer = AnswerMessage(
        examples=180,
        metrics={"loss": 2.25, "accuracy": 0.125, "examples": 45.0},
        payload=bare.encode(update, spec),
        link=(1200, 900),
    )
    enrolled = Enrolled(client="client-00", token="AAAAAAAAAAAAAAAAAAAAAA", group="default", role="client")  # noqa: S106
    return [
        Step(
            "The client enrols, once. All other requests carry the token.",
            "POST /v1/clients",
            encode_message(Enrolment(invite="inv1te", name="client-00")),
            "201",
            encode_message(enrolled),
        ),
        Step(
            "It registers and is parked until an exchange asks it. It names the digest of its model's spec. The task "
            "carries the model inside: one byte of container header (`c0`, all arrays present, no open dimension), "
            "then `w` and `b` as little-endian float32.",
            "POST /v1/registrations?wait_s=300",
            encode_message(Registration(spec=spec_digest(spec))),
            "200",
            encode_message(task),
        ),
        Step(
            "It does not know the plan yet and fetches it, once for the run and kind. Without chains, payloads are "
            "bare containers.",
            f"GET /v1/plans/{digest_of(plan).hex()}",
            b"",
            "200",
            plan,
        ),
        Step(
            "It trains and answers with its update. The answer counts.",
            "POST /v1/tasks/t4sk00/answer",
            encode_message(answer),
            "200",
            encode_message(VerdictMessage(verdict="accepted")),
        ),
        Step(
            "It registers for the next exchange. It still holds the parts of exchange 0.",
            "POST /v1/registrations?wait_s=300",
            encode_message(Registration(spec=spec_digest(spec), holds={"r4nd0m": 0})),
            "204",
            b"",
        ),
    ]
