"""A client without torch: the real protocol, answers made of seeded noise."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from thinwire.codecs import Array, Chain, Spec
from thinwire.methods.chains import Chains
from thinwire.methods.payloads import PRIVATE, encode_answer, merge_parts, receive
from thinwire.protocol.encoding import MSGPACK, decode_message, encode_message
from thinwire.protocol.identity import broadcast_seed, client_seed
from thinwire.protocol.messages import (
    MAX_INLINE_BYTES,
    AnswerMessage,
    Enrolled,
    Enrolment,
    Plan,
    Problem,
    Registration,
    TaskMessage,
    VerdictMessage,
)
from thinwire.protocol.reasons import ProblemError

MSG = {"content-type": MSGPACK}


@dataclass
class Received:
    """A task with its decoded parts."""

    message: TaskMessage
    plan: Plan
    parts: dict[str, dict[str, Array]]


@dataclass
class NumpyClient:
    """One client on one connection pool."""

    http: httpx.AsyncClient
    name: str
    token: str = ""
    spec: bytes | None = None
    plans: dict[bytes, Plan] = field(default_factory=dict)
    parts: dict[str, dict[str, Array]] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    forms: list[str] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    through_upload: bool = False
    software: str | None = None

    async def enrol(self, invite: str) -> Enrolled:
        body = encode_message(Enrolment(invite=invite, name=self.name))
        response = await self.http.post("/v1/clients", content=body, headers=MSG)
        assert response.status_code == 201, response.content
        enrolled = decode_message(Enrolled, response.content)
        self.token = enrolled.token
        return enrolled

    @property
    def auth(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    async def send(self, path: str, message: Any, **params: Any) -> httpx.Response:
        headers = {**self.auth, **MSG}
        return await self.http.post(path, content=encode_message(message), headers=headers, params=params, timeout=60)

    async def register(self, wait_s: float = 20) -> TaskMessage | None:
        """The task, or None; a `Problem` is raised as `ProblemError`."""
        message = Registration(spec=self.spec, holds=self.held or None, software=self.software)
        response = await self.send("/v1/registrations", message, wait_s=wait_s)
        if response.status_code == 204:
            return None
        if response.status_code != 200:
            problem = decode_message(Problem, response.content)
            raise ProblemError(problem.reason, problem.detail)
        return decode_message(TaskMessage, response.content)

    async def plan_of(self, digest: bytes) -> Plan:
        if digest not in self.plans:
            response = await self.http.get(f"/v1/plans/{digest.hex()}", headers=self.auth)
            assert response.status_code == 200, response.content
            assert hashlib.sha256(response.content).digest() == digest
            self.plans[digest] = decode_message(Plan, response.content)
        return self.plans[digest]

    async def fetch(self, message: TaskMessage) -> Received:
        plan = await self.plan_of(message.plan)
        chains = Chains(
            Chain.from_plain(plan.chains.down),
            Chain.from_plain(plan.chains.up),
            Chain.from_plain(plan.chains.full),
            Chain.from_plain(plan.chains.private),
        )
        parts: dict[str, dict[str, Array]] = {}
        names = [*plan.parts, PRIVATE]
        for name, part in zip(names, message.parts, strict=False):
            self.forms.append(part.form)
            if part.form == "held":
                parts[name] = self.parts[name]
                continue
            data = part.inline
            if data is None:
                assert part.digest is not None
                response = await self.http.get(f"/v1/payloads/{part.digest.hex()}", headers=self.auth)
                assert response.status_code == 200, response.content
                data = response.content
                assert hashlib.sha256(data).digest() == part.digest
                assert len(data) == part.size
            if name == PRIVATE:
                assert part.spec is not None
                seed = client_seed(plan.seed, message.round, message.step, self.name)
                parts[name] = chains.private.decode(data, Spec.from_plain(part.spec), seed=seed)
                continue
            base = self.parts[name] if part.form == "delta" else None
            seed = broadcast_seed(plan.seed, message.round, message.step)
            parts[name] = receive(data, Spec.from_plain(plan.parts[name]), chains, base=base, seed=seed)
        self.parts, self.held = parts, {message.run: message.exchange}
        return Received(message, plan, parts)

    def perform(self, received: Received) -> tuple[bytes, int]:
        """The payload of the answer, and the examples: functions of name, seed, round and step."""
        message, plan = received.message, received.plan
        seed = client_seed(plan.seed, message.round, message.step, self.name)
        reply = Spec.from_plain(plan.reply)
        arrays = noise(seed, reply)
        chain = Chain.from_plain(plan.chains.up)
        data = encode_answer(arrays, reply, chain, reference=merge_parts(received.parts), seed=seed)
        return data, examples_of(self.name)

    async def answer(
        self, task: str, data: bytes, examples: int, *, metrics: Mapping[str, float] | None = None, **extra: Any
    ) -> httpx.Response:
        told = {"loss": 1.0, "accuracy": 0.5, "examples": 10.0} if metrics is None else dict(metrics)
        large = self.through_upload or len(data) > MAX_INLINE_BYTES
        upload, payload = None, data or None
        if data and large:
            payload = None
            try:
                upload = await self.upload(task, data)
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in (404, 409):
                    raise
                # Answered already, perhaps: the verdict on an empty answer tells.
        message = AnswerMessage(examples=examples, metrics=told, payload=payload, upload=upload, **extra)
        while True:
            response = await self.send(f"/v1/tasks/{task}/answer", message)
            if response.status_code != 202:
                return response
            await asyncio.sleep(float(response.headers["retry-after"]))

    async def upload(self, task: str, data: bytes) -> str:
        """The id of the finished upload. Raises `httpx.HTTPStatusError`, for example where the task is answered."""
        created = await self.create_upload(task, data)
        created.raise_for_status()
        location = created.headers["location"]
        tus = {**self.auth, "tus-resumable": "1.0.0"}
        stands = await self.http.head(location, headers=tus)
        stands.raise_for_status()
        offset = stands.headers["upload-offset"]
        headers = {**tus, "upload-offset": offset, "content-type": "application/offset+octet-stream"}
        response = await self.http.patch(location, content=data[int(offset) :], headers=headers)
        response.raise_for_status()
        return str(location).rsplit("/", 1)[1]

    async def create_upload(self, task: str, data: bytes) -> httpx.Response:
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        metadata = f"task {base64.b64encode(task.encode()).decode()},digest {digest}"
        headers = {**self.auth, "tus-resumable": "1.0.0", "upload-length": str(len(data)), "upload-metadata": metadata}
        return await self.http.post("/v1/uploads", headers=headers)

    async def work(self, exchanges: int | None = None, *, stubborn: bool = False) -> None:
        """Answers tasks until the run is over, or for so many exchanges. `stubborn`: where something has become of
        an upload meanwhile, the whole answer is sent again.
        """
        message: TaskMessage | None = None
        while exchanges is None or len(self.verdicts) < exchanges:
            if message is None:
                try:
                    message = await self.register()
                except ProblemError as error:
                    if error.reason != "run-finished":
                        raise
                    return
                if message is None:
                    continue
            received = await self.fetch(message)
            while True:
                response = await self.answer(message.task, *self.perform(received))
                if response.status_code == 200 or not stubborn:
                    break
            assert response.status_code == 200, response.content
            verdict = decode_message(VerdictMessage, response.content)
            self.verdicts.append(verdict.verdict)
            message = verdict.next


def noise(seed: int, reply: Spec) -> dict[str, Array]:
    """Seeded arrays that fit the reply."""
    random = np.random.default_rng(seed)
    return {
        name: random.standard_normal(item.max_shape).astype(item.numpy_dtype) for name, item in sorted(reply.items())
    }


def examples_of(name: str) -> int:
    return 1 + sum(name.encode()) % 50


def simulate(
    arrays: Mapping[str, Array],
    seed: int,
    contributors: list[list[str]],
    settings: dict[str, Any],
    rounds: int,
    cohort: int = 2,
    **run: Any,
) -> dict[str, Array]:
    """What the run, of the toy method unless `run` says otherwise, must end in: the plain loop, in process."""
    from thinwire.methods.definition import define
    from thinwire.methods.values import Contribution
    from thinwire.protocol.settings import RunSettings

    wanted = {"method": "toy", "settings": settings, "rounds": rounds, "cohort": cohort, "seed": seed, **run}
    server = define("run", RunSettings.model_validate(wanted)).server
    state = server.start(arrays, seed)
    for names in contributors:
        task = server.task(state)
        assert task is not None
        total = server.reducer.zero()
        for name in names:
            own = noise(client_seed(seed, task.round, task.step, name), task.reply)
            answer = server.reducer.check(Contribution(0, name, examples_of(name), own))
            total = server.reducer.add(total, answer)
        state = server.advance(state, total)
    model = server.model(state)
    assert model is not None
    return dict(model)
