"""Five hundred clients that come back at once after an outage: `python -m benchmarks.outage`.

All clients have a task when the coordinator is killed. Started again, it gets all their answers at once, each on a
new connection, and leads the run to its end. Shown: what was accepted, what was refused with Retry-After, what
connections broke, and the coordinator's anonymous memory before, at its highest and at the end. The clients are
coroutines of this process that do not train; their requests are those of real clients.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import httpx
import numpy as np
from safetensors.numpy import save_file

from thinwire.codecs import Chain, Spec
from thinwire.operator.console import console
from thinwire.operator.lab import Lab
from thinwire.operator.processes import Child
from thinwire.operator.sheet import Sheet
from thinwire.protocol.encoding import MSGPACK, decode_message, encode_message
from thinwire.protocol.messages import (
    MAX_INLINE_BYTES,
    AnswerMessage,
    Enrolled,
    Enrolment,
    Plan,
    Registration,
    RunMetrics,
    TaskMessage,
    VerdictMessage,
)
from thinwire.protocol.settings import RunSettings

SAMPLE_S = 0.05
LONGEST_WAIT_S = 8.0


@dataclass(frozen=True, slots=True)
class Outage:
    """What became of it. `refused`: answered with 429 or 503; `broken`: connections that broke or were not made;
    `accepted`: answers that count, by the clients' verdicts; memory in MB of anonymous pages.
    """

    clients: int
    answer_bytes: int
    accepted: int
    refused: int
    broken: int
    seconds: float
    memory_idle: float
    memory_before: float
    memory_most: float
    memory_after: float


class _Client:
    """One client. `seen`: what happened to all of them."""

    def __init__(self, http: httpx.AsyncClient, index: int, answers: dict[bytes, bytes], seen: Counter[str]) -> None:
        self.name = f"client-{index:04d}"
        self._http = http
        self._rng = Random(index)  # noqa: S311
        self._answers = answers
        self._seen = seen
        self._token = ""
        self.task: TaskMessage | None = None

    async def enrol(self, invite: str) -> None:
        body = encode_message(Enrolment(invite=invite, name=self.name))
        self._token = decode_message(Enrolled, (await self._ask("POST", "/v1/clients", body)).content).token

    async def register(self) -> bool:
        """Waits for a task; False: the run is over."""
        while True:
            reply = await self._ask("POST", "/v1/registrations?wait_s=600", encode_message(Registration()))
            if reply.status_code == 410:
                return False
            if reply.status_code == 200:
                self.task = decode_message(TaskMessage, reply.content)
                return True

    async def prepare(self) -> None:
        """The answer to the plan of its task, which is everybody's: zeros."""
        assert self.task is not None
        if self.task.plan not in self._answers:
            plan = decode_message(Plan, (await self._ask("GET", f"/v1/plans/{self.task.plan.hex()}")).content)
            spec = Spec.from_plain(plan.reply)
            zeros = {name: np.zeros(item.max_shape, item.numpy_dtype) for name, item in spec.items()}
            self._answers[self.task.plan] = Chain.from_plain(plan.chains.up).encode(zeros, spec)

    async def answer(self) -> None:
        """Answers its task; the next one, if it comes with the verdict, is its task then."""
        assert self.task is not None
        payload = self._answers[self.task.plan]
        small = len(payload) <= MAX_INLINE_BYTES
        upload = None if small else await self._upload(payload)
        message = AnswerMessage(examples=1, payload=payload if small else None, upload=upload)
        while True:
            reply = await self._ask("POST", f"/v1/tasks/{self.task.task}/answer", encode_message(message))
            if reply.status_code == 200:
                break
            assert reply.status_code == 202, reply.content
            await asyncio.sleep(float(reply.headers["retry-after"]))
        verdict = decode_message(VerdictMessage, reply.content)
        # A verdict that an outage swallowed is told again.
        self._seen["accepted"] += verdict.verdict in ("accepted", "duplicate")
        self.task = verdict.next

    async def _upload(self, payload: bytes) -> str:
        assert self.task is not None
        named = {"task": self.task.task.encode(), "digest": hashlib.sha256(payload).digest()}
        metadata = ",".join(f"{name} {base64.b64encode(value).decode()}" for name, value in named.items())
        tus = {"tus-resumable": "1.0.0"}
        begin = {**tus, "upload-length": str(len(payload)), "upload-metadata": metadata}
        where = (await self._ask("POST", "/v1/uploads", headers=begin)).headers["location"]
        offset = int((await self._ask("HEAD", where, headers=tus)).headers["upload-offset"])
        append = {**tus, "upload-offset": str(offset), "content-type": "application/offset+octet-stream"}
        await self._ask("PATCH", where, payload[offset:], headers=append)
        return str(where).rpartition("/")[2]

    async def work(self) -> None:
        """To the end of the run."""
        while self.task is not None or await self.register():
            await self.prepare()
            await self.answer()

    async def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """As the client does it: again with full jitter, or as Retry-After says."""
        given = {"content-type": MSGPACK, **(headers or {})}
        if self._token:
            given["authorization"] = f"Bearer {self._token}"
        for tries in range(60):
            longest = min(LONGEST_WAIT_S, 0.25 * 2**tries)
            try:
                reply = await self._http.request(method, path, content=body, headers=given)
            except httpx.TransportError:
                self._seen["broken"] += 1
            else:
                if reply.status_code not in (429, 503):
                    assert reply.status_code < 400 or reply.status_code == 410, reply.content
                    return reply
                self._seen["refused"] += 1
                longest += float(reply.headers.get("retry-after", 0))
            await asyncio.sleep(self._rng.uniform(0, longest))
        raise AssertionError(f"{path}: given up")


class _Memory:
    """Anonymous resident memory of a process in MB; `most` while it is watched."""

    def __init__(self, child: Child) -> None:
        self._status = Path(f"/proc/{child.process.pid}/status")
        self.most = 0.0

    def now(self) -> float:
        text = self._status.read_text()
        return int(text.partition("RssAnon:")[2].split()[0]) / 1024

    async def watch(self) -> None:
        while True:
            self.most = max(self.most, self.now())
            await asyncio.sleep(SAMPLE_S)


def _start_run(lab: Lab, clients: int, answer_bytes: int, rounds: int) -> tuple[str, str]:
    """The run's id, and an invite for all its clients."""
    model = lab.folder / "model.safetensors"
    save_file({"weights": np.zeros(max(1, answer_bytes // 4), np.float32)}, model)
    settings = RunSettings(name="outage", rounds=rounds, cohort=clients, evaluate=False, chains="plain")
    return lab.start_run(model, settings).id, lab.invite(clients)


async def _play(lab: Lab, clients: int, answer_bytes: int, rounds: int) -> tuple[Outage, RunMetrics]:
    idle = _Memory(lab.coordinator).now()
    run, invite = await asyncio.to_thread(_start_run, lab, clients, answer_bytes, rounds)
    seen: Counter[str] = Counter()
    answers: dict[bytes, bytes] = {}
    limits = httpx.Limits(max_connections=1, keepalive_expiry=650)
    tls = httpx.create_ssl_context()
    async with AsyncExitStack() as stack:
        # Each its own pool: one pool looks through all its connections at every request.
        own = [httpx.AsyncClient(base_url=lab.url, limits=limits, timeout=660, verify=tls) for _ in range(clients)]
        fleet = [_Client(await stack.enter_async_context(http), index, answers, seen) for index, http in enumerate(own)]
        for client in fleet:
            await client.enrol(invite)
        await asyncio.gather(*(client.register() for client in fleet))
        await fleet[0].prepare()
        before = _Memory(lab.coordinator).now()
        port = lab.kill()
        seen.clear()
        memory = _Memory(await asyncio.to_thread(lab.serve, port))
        watch = asyncio.create_task(memory.watch())
        began = time.monotonic()
        await asyncio.gather(*(client.work() for client in fleet))
        seconds = time.monotonic() - began
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
    metrics = lab.metrics(run)
    outage = Outage(
        clients, answer_bytes, seen["accepted"], seen["refused"], seen["broken"], seconds,
        idle, before, memory.most, memory.now(),
    )  # fmt: skip
    return outage, metrics


def outage(clients: int, answer_bytes: int, rounds: int = 2) -> tuple[Outage, RunMetrics]:
    """One outage, on this machine; the run's metrics at its end."""
    with tempfile.TemporaryDirectory() as name, Lab(Path(name), environment={}) as lab:
        lab.serve()
        return asyncio.run(_play(lab, clients, answer_bytes, rounds))


def main() -> None:
    """Plays the outages, prints a table, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--kib", type=int, nargs="+", default=[16, 256], help="size of an answer; above 64 an upload")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/outage.json"))
    given = parser.parse_args()
    found = [outage(given.clients, kib << 10)[0] for kib in given.kib]
    titles = ("clients", "answer KiB", "accepted", "refused", "broken", "seconds",
              "MB idle", "MB before", "MB most", "MB after")  # fmt: skip
    shown = Sheet("all clients come back at once, two rounds", titles)
    for one in found:
        memory = (one.memory_idle, one.memory_before, one.memory_most, one.memory_after)
        counts = (one.clients, one.answer_bytes >> 10, one.accepted, one.refused, one.broken)
        shown.add_row(*map(str, counts), f"{one.seconds:.1f}", *(f"{value:.0f}" for value in memory))
    console().print(shown)
    given.out.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")
    console().print(f"written: {given.out}")


if __name__ == "__main__":
    main()
