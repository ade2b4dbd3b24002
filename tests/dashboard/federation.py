"""A federation to look at: a real coordinator, and clients that follow a script instead of training.

What they say of accuracy and seconds is made up, and smooth; their bytes are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import httpx
import numpy as np

from tests.coordinator.numpy_client import NumpyClient
from thinwire.methods.model_file import model_bytes
from thinwire.operator.lab import Lab
from thinwire.protocol.encoding import decode_message
from thinwire.protocol.messages import AnswerMessage, DeclineMessage, RunView, VerdictMessage
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

WARDS: Final = tuple(f"ward-{number}" for number in range(1, 8))


@dataclass
class Ward(NumpyClient):
    """`pace_s`: how long it seems to train; `declines`: the rounds whose task it gives up; `silent_after`: the round
    after which nobody hears of it.
    """

    pace_s: float = 0.2
    declines: frozenset[int] = frozenset()
    silent_after: int | None = None
    speed: float = 0.35
    software: str | None = version("thinwire")

    async def live(self) -> None:
        """Answers until it is cancelled, silent, or the run is over."""
        message = None
        while True:
            if message is None:
                try:
                    message = await self.register(5)
                except ProblemError:
                    return
                if message is None:
                    continue
            if self.silent_after is not None and message.round > self.silent_after:
                await asyncio.Event().wait()
            if message.round in self.declines:
                await self.send(f"/v1/tasks/{message.task}/decline", DeclineMessage(detail="out of memory"))
                self.declines -= {message.round}
                message = None
                continue
            received = await self.fetch(message)
            await asyncio.sleep(self.pace_s)
            data, examples = self.perform(received)
            data = data if received.plan.kind != "evaluate" else b""
            response = await self.told(message.task, data, examples, message.round)
            message = decode_message(VerdictMessage, response.content).next if response.status_code == 200 else None

    async def told(self, task: str, data: bytes, examples: int, round_: int) -> httpx.Response:
        learnt = 0.12 + 0.84 * (1 - math.exp(-self.speed * max(0, round_ - 1)))
        wobble = 0.01 * math.sin(3 * round_ + len(self.name))
        metrics = {
            "accuracy": min(1.0, learnt + wobble), "loss": 2.3 * (1 - learnt) + 0.08, "examples": 200.0,
            "seconds": self.pace_s,
        }  # fmt: skip
        message = AnswerMessage(examples=examples, metrics=metrics, payload=data or None)
        while True:
            response = await self.send(f"/v1/tasks/{task}/answer", message)
            if response.status_code != 202:
                return response
            await asyncio.sleep(float(response.headers["retry-after"]))


def begin(lab: Lab, name: str, size: int = 60, **settings: Any) -> RunView:
    """A run of fedavg whose model has 256 x `size` numbers."""
    random = np.random.default_rng(7)
    arrays = {"layer.weight": random.standard_normal((256, size)).astype(np.float32) / 16}
    path = lab.folder / "first.safetensors"
    path.write_bytes(model_bytes(arrays))
    wanted: dict[str, Any] = {"name": name, "cohort": 7, "quorum": 3, "rounds": 12, "deadline_s": 2.0, **settings}
    return lab.start_run(path, RunSettings(**wanted))


@contextlib.asynccontextmanager
async def wards(lab: Lab, **scripts: dict[str, Any]) -> AsyncIterator[list[Ward]]:
    """Seven clients at work. `scripts`: what of each differs from the others, by name with an underscore."""
    invite = lab.invite(len(WARDS))
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number, name in enumerate(WARDS):
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=lab.url, timeout=60))
            script = {"pace_s": 0.15 + 0.05 * number, **scripts.get(name.replace("-", "_"), {})}
            ward = Ward(http, name, **script)
            await ward.enrol(invite)
            found.append(ward)
        working = [asyncio.create_task(ward.live()) for ward in found]
        try:
            yield found
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)


async def until(lab: Lab, run: str, exchange: int) -> RunView:
    """The run once it has come to this exchange, or is over."""
    while True:
        view = await asyncio.to_thread(lab.view, run)
        if view.exchange >= exchange or view.state == "finished":
            return view
        await asyncio.sleep(0.1)
