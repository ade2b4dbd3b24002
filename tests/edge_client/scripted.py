"""A coordinator that follows a script, and a client that talks to it, process by process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.edge_client.cutting_server import CuttingServer
from thinwire.codecs import Arrays, Chain, Spec
from thinwire.edge_client.agent import Agent
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.limits import Limits
from thinwire.edge_client.link.transfer import Transfer
from thinwire.edge_client.memory.folder import Folder
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.protocol.encoding import MSGPACK, decode_message, encode_message, spec_digest
from thinwire.protocol.identity import digest_of
from thinwire.protocol.messages import (
    AnswerMessage,
    ChainsMessage,
    DeclineMessage,
    PartMessage,
    Plan,
    Registration,
    TaskMessage,
)
from thinwire.protocol.reasons import REASONS
from thinwire.protocol.short import Known, encode_short

PACKED = {"Content-Type": MSGPACK}
MakeTransfer = Callable[..., Transfer]


class Bias(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + self.bias


def learner(size: int = 4) -> Learner:
    data = Data((torch.rand(6, size), torch.zeros(6, size)))
    return Learner(LearningProblem(lambda: Bias(size), lambda _: data, nn.MSELoss()), ClientInfo("client-00"))


class Script:
    """Builds what the peer says."""

    def __init__(self, server: CuttingServer, size: int = 4, **plan: Any) -> None:
        self.server = server
        self.size = size
        self.spec = Spec.of({"bias": np.zeros(size, np.float32)})
        values: dict[str, Any] = {
            "run": "run001",
            "method": "toy_steps",
            "settings": {"step": 0.5},
            "kind": "train",
            "seed": 3,
            "rounds": 9,
            "parts": {"model": self.spec.to_plain()},
            "reply": self.spec.to_plain(),
            "chains": ChainsMessage(down=[{"name": "delta"}], up=[], full=[], private=[]),
            "max_examples": 5,
            "model": spec_digest(self.spec),
        }
        self.plan = encode_message(Plan(**{**values, **plan}))

    def says(self, status: int = 200, message: Any = None, **headers: str) -> None:
        body = b"" if message is None else encode_message(message)
        self.server.answers.append((status, {**(PACKED if body else {}), **headers}, body))

    def says_shortly(self, message: Any = None, known: Known | None = None) -> None:
        self.server.knows_short = True
        self.server.answers.append((200, {}, encode_short(message, known)))

    def says_plan(self) -> None:
        self.server.answers.append((200, PACKED, self.plan))

    def says_problem(self, reason: str, **more: object) -> None:
        body = json.dumps({"reason": reason, "detail": "by the script", "retry": REASONS[reason].retry, **more})
        self.server.answers.append((REASONS[reason].status, {"Content-Type": "application/json"}, body.encode()))

    def task(self, exchange: int = 0, *parts: PartMessage, task: str | None = None) -> TaskMessage:
        return TaskMessage(
            task=task or f"task{exchange:03}",
            run="run001",
            plan=digest_of(self.plan),
            exchange=exchange,
            round=exchange + 1,
            step=0,
            parts=list(parts) or [self.whole(float(exchange))],
        )

    def arrays(self, value: float) -> Arrays:
        return {"bias": np.full(self.size, value, np.float32)}

    def whole(self, value: float) -> PartMessage:
        return PartMessage(inline=Chain().encode(self.arrays(value), self.spec))

    def by_digest(self, value: float) -> PartMessage:
        payload = Chain().encode(self.arrays(value), self.spec)
        digest = digest_of(payload)
        self.server.payloads[digest.hex()] = payload
        return PartMessage(digest=digest, size=len(payload))

    def delta(self, value: float, base: float) -> PartMessage:
        payload = Chain.parse("delta").encode(self.arrays(value), self.spec, reference=self.arrays(base))
        return PartMessage(form="delta", inline=payload)


class ScriptedClient:
    """A client whose processes may end and begin again."""

    def __init__(self, path: Path, server: CuttingServer, make_transfer: MakeTransfer) -> None:
        self.path, self.server, self.make_transfer = path, server, make_transfer
        self.said: list[str] = []

    def process(
        self,
        size: int = 4,
        limits: Limits | None = None,
        until: type[Exception] | None = None,
        *,
        own_first: bool = True,
        forever: bool = False,
    ) -> None:
        """Works until the script ends with run-finished, or with this error."""
        folder = Folder(self.path)
        transfer = self.make_transfer(self.server.address)
        try:
            agent = Agent(
                transfer, folder, learner(size), say=self.said.append, limits=limits, own_first=own_first,
                process="aaaaaa", start=folder.begin(),
            )  # fmt: skip
            if until is None:
                agent.serve(forever=forever)
            else:
                with pytest.raises(until):
                    agent.serve(forever=forever)
        finally:
            folder.close()
            transfer.close()

    def counted(self) -> list[int]:
        folder = Folder(self.path)
        try:
            return list(folder.run("run001").memory().get("counted", np.zeros(2)))
        finally:
            folder.close()

    def answers(self) -> list[AnswerMessage]:
        return [decode_message(AnswerMessage, body) for body in self._bodies("/answer")]

    def declined(self) -> list[str]:
        return [decode_message(DeclineMessage, body).detail for body in self._bodies("/decline")]

    def registrations(self) -> list[Registration]:
        return [decode_message(Registration, body) for body in self._bodies("/registrations")]

    def _bodies(self, where: str) -> list[bytes]:
        """Of the requests to such a path that the script answered."""
        pairs = zip(self.server.requests, self.server.bodies, strict=True)
        return [body for (_, path, _), body in pairs if where in path and body]
