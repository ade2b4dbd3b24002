"""A run goes on to its exact end while everybody else does harm: an insider with a token, and strangers without."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load

from tests.coordinator.numpy_client import MSG, NumpyClient, simulate
from tests.coordinator.served import Served, model
from thinwire.codecs import Array, Chain, Spec
from thinwire.coordinator.runs.metrics import Told, weighted_metrics
from thinwire.methods.payloads import encode_answer, merge_parts
from thinwire.protocol.messages import AnswerMessage
from thinwire.protocol.reasons import ProblemError

HONEST = ["client-00", "client-01"]
ROUNDS = 3
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(st.integers(0, 1 << 62), st.dictionaries(st.sampled_from(["loss", "examples"]), FLOATS))))
def test_no_metric_makes_a_mean_that_is_no_number(told: list[tuple[int, dict[str, float]]]) -> None:
    means = weighted_metrics([Told(examples, metrics) for examples, metrics in told], 1 << 16)
    assert all(math.isfinite(value) for value in means.values())
    assert all(abs(value) <= 1.0001e30 for name, value in means.items() if name == "loss")
    assert means.get("examples", 0) <= len(told) << 16


POISONS: dict[str, Callable[[Array], Array]] = {
    "NaN": lambda array: array * np.float32("nan"),
    "infinity": lambda array: np.full_like(array, np.inf),
    "minus infinity": lambda array: np.full_like(array, -np.inf),
    "one NaN": lambda array: np.where(
        np.arange(array.size).reshape(array.shape) == array.size // 2, np.nan, array
    ).astype(array.dtype),
    "beyond the bound": lambda array: np.full_like(array, 1025),
    "the largest float": lambda array: np.full_like(array, np.finfo(np.float32).max),
    "its negative": lambda array: np.full_like(array, -np.finfo(np.float32).max),
}
CLAIMS: list[dict[str, Any]] = [
    {"examples": 0}, {"examples": -1}, {"examples": (1 << 64) - 1}, {"examples": 1.5}, {"examples": True},
    {"examples": 1, "metrics": {"loss": float("nan")}}, {"examples": 1, "metrics": {"loss": float("inf")}},
    {"examples": 1, "metrics": {"../x": 1.0}}, {"examples": 1, "metrics": {f"m{n}": 0.0 for n in range(13)}},
]  # fmt: skip


async def _task(client: NumpyClient) -> Any:
    message = None
    while message is None:
        message = await client.register()
    return await client.fetch(message)


@pytest.mark.parametrize("uplink", ["", "cast(f16)", "delta"])
def test_what_is_not_finite_or_too_large_is_refused_by_every_chain(standing: Served, uplink: str) -> None:
    """And the client is not asked again before the others have been."""
    name = f"poison-{sum(uplink.encode())}"
    standing.run(model(50), cohort=1, rounds=1, name=name, group=name, uplink=uplink, **{"max-offers": 100})

    async def answers() -> list[tuple[str, int, str]]:
        async with httpx.AsyncClient(base_url=standing.url, timeout=60) as http:
            client = NumpyClient(http, f"{name}-client")
            await client.enrol(standing.invite(group=name))
            found = []
            for what, poison in POISONS.items():
                received = await _task(client)
                reply = Spec.from_plain(received.plan.reply)
                arrays = {key: poison(np.ones(item.max_shape, item.numpy_dtype)) for key, item in reply.items()}
                with np.errstate(all="ignore"):
                    chain = Chain.from_plain(received.plan.chains.up)
                    try:
                        data = encode_answer(arrays, reply, chain, reference=merge_parts(received.parts), seed=1)
                    except ValueError:  # the chain itself does not write it
                        continue
                response = await client.answer(received.message.task, data, 1)
                found.append((what, response.status_code, msgpack.unpackb(response.content).get("reason", "")))
            return found

    found = asyncio.run(answers())
    assert found
    assert {(status, reason) for _, status, reason in found} <= {(422, "answer-invalid"), (422, "payload-invalid")}, (
        found
    )


def test_absurd_claims_are_refused_before_they_are_believed(standing: Served) -> None:
    standing.run(model(50), cohort=1, rounds=1, name="claims", group="claims")

    async def answers() -> list[int]:
        async with httpx.AsyncClient(base_url=standing.url, timeout=60) as http:
            client = NumpyClient(http, "claimant")
            await client.enrol(standing.invite(group="claims"))
            received = await _task(client)
            path = f"/v1/tasks/{received.message.task}/answer"
            statuses = []
            for claim in CLAIMS[1:]:
                body = msgpack.packb({"payload": client.perform(received)[0], **claim})
                statuses.append((await http.post(path, content=body, headers={**client.auth, **MSG})).status_code)
            return statuses

    statuses = asyncio.run(answers())
    assert all(400 <= status < 500 for status in statuses), statuses


def _resident(served: Served) -> int:
    assert served.process is not None
    text = Path(f"/proc/{served.process.pid}/status").read_text()
    return 1024 * int(next(line for line in text.splitlines() if line.startswith("RssAnon")).split()[1])


class Attack:
    """Goes on until it is told to stop; `refused` counts what it was told off for, `broken` lists what broke."""

    def __init__(self, served: Served, insider: NumpyClient) -> None:
        self.served, self.insider = served, insider
        self.stop = asyncio.Event()
        self.refused = 0
        self.broken: list[str] = []

    async def everything(self, http: httpx.AsyncClient) -> None:
        await asyncio.gather(self._poison(), self._replay(http), self._guess(http), self._slow(), self._waste())

    def _note(self, response: httpx.Response) -> None:
        self.refused += 400 <= response.status_code < 500
        if response.status_code >= 500 or b"Traceback" in response.content:
            self.broken.append(f"{response.request.method} {response.request.url}: {response.text[:200]}")

    async def _poison(self) -> None:
        """Takes part in the run, and answers with what no sum survives."""
        number = 0
        while not self.stop.is_set():
            try:
                message = await self.insider.register(wait_s=0.2)
            except ProblemError as error:
                if error.reason != "run-finished":
                    self.broken.append(str(error))
                return
            if message is None:
                continue
            received = await self.insider.fetch(message)
            reply = Spec.from_plain(received.plan.reply)
            poison = list(POISONS.values())[number % len(POISONS)]
            arrays = {name: poison(np.ones(item.max_shape, item.numpy_dtype)) for name, item in reply.items()}
            data = encode_answer(
                arrays, reply, Chain.from_plain(received.plan.chains.up), reference=merge_parts(received.parts), seed=1
            )
            if not len(reply):  # an evaluation: what it says cannot be poisoned, so it says nothing
                data = b"x"
            self._note(await self.insider.answer(message.task, data, (1 << 63) - 1))
            number += 1

    async def _replay(self, http: httpx.AsyncClient) -> None:
        """Sends others' tasks, old tasks, others' uploads."""
        while not self.stop.is_set():
            for task in ("aaaaaaaaaa", "../answers", "%2e%2e", "a" * 64):
                answer = AnswerMessage(examples=1, payload=b"x" * 100)
                self._note(await self.insider.send(f"/v1/tasks/{task}/answer", answer))
            self._note(await self.insider.create_upload("aaaaaaaaaa", b"x"))
            for method, path in (
                ("GET", "/v1/uploads/abcdefgh"),
                ("POST", "/v1/runs"),
                ("DELETE", "/v1/clients/client-00"),
            ):
                self._note(await http.request(method, path, headers=self.insider.auth))

    async def _guess(self, http: httpx.AsyncClient) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            self._note(await http.post("/v1/clients", json={"invite": f"guess-{number}"}))
            self._note(await http.get("/v1/clients", headers={"authorization": f"Bearer guess-{number}"}))

    async def _slow(self) -> None:
        """Opens connections that say nothing, or a little, or too much."""
        begun = b"POST /v1/clients HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        with contextlib.ExitStack() as held:
            for number in itertools.count():
                if self.stop.is_set():
                    return
                raw = held.enter_context(socket.create_connection(("127.0.0.1", self.served.port)))
                raw.setblocking(False)
                with contextlib.suppress(OSError):
                    raw.send([b"", begun, begun + b"\r\nffffff\r\n" + b"x" * 4096][number % 3])
                await asyncio.sleep(0.02)

    async def _waste(self) -> None:
        """Messages as large as they may be, and larger."""
        async with httpx.AsyncClient(base_url=self.served.url, timeout=60) as http:
            while not self.stop.is_set():
                for body in (b"\xdd\x00\x00\x3f\xff" * 50_000, b"x" * (1 << 19)):
                    self._note(await http.post("/v1/registrations", content=body, headers={**self.insider.auth, **MSG}))


def test_a_run_ends_in_its_exact_model_under_attack(serve: Callable[..., Served]) -> None:
    served = serve(stalled_after_s=2, max_failures_per_address=50, max_connections_per_address=200)
    wanted = {"over-select": 1.5, "max-offers": 1000, "min-clients": 3, "settings": {"steps": 2}}
    run = served.run(model(500), rounds=ROUNDS, cohort=2, **wanted)["id"]

    async def act() -> Attack:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(base_url=served.url, timeout=60, limits=limits) as http:
            invite = served.invite()
            honest = [NumpyClient(http, name, through_upload=bool(index)) for index, name in enumerate(HONEST)]
            insider = NumpyClient(http, "insider")
            for client in (*honest, insider):
                await client.enrol(invite)
            attack = Attack(served, insider)
            going = asyncio.create_task(attack.everything(http))
            try:
                await asyncio.gather(*(client.work() for client in honest))
            finally:
                attack.stop.set()
                await going
            return attack

    before = _resident(served)
    attack = asyncio.run(act())
    assert attack.broken == []
    assert attack.refused > 20
    found = load(served.get(f"/v1/runs/{run}/model").content)
    expected = simulate(model(500), 0, [HONEST] * (2 * ROUNDS), {"steps": 2}, ROUNDS)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert served.get(f"/v1/runs/{run}").json()["outcome"] == "completed"
    assert [one["client"] for one in served.get("/v1/clients").json()["clients"]] == [*HONEST, "insider"]
    assert _resident(served) - before < 64 << 20
    until = time.monotonic() + 30
    while list((served.data_dir / "uploads").iterdir()) and time.monotonic() < until:
        time.sleep(0.1)
    assert list((served.data_dir / "uploads").iterdir()) == []
