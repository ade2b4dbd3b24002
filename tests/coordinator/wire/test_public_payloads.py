"""`payloads = "public"` behind a cache: the coordinator sends each payload once, however many clients take it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, model
from tests.coordinator.wire.proxies import NAME, SHIPPED_SITES, proxied
from thinwire.codecs import Spec
from thinwire.machine.tcp import tcp_info
from thinwire.protocol.encoding import spec_digest

CLIENTS, ROUNDS = 5, 2
LARGE = model(20_000)
SETTINGS = {"private": True}


class _Client(NumpyClient):
    """Says what its kernel has counted, as devices do; `fetched`: payload -> its size."""

    def __init__(self, url: str, name: str) -> None:
        only = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        hooks = {"response": [self._came]}
        super().__init__(httpx.AsyncClient(base_url=url, headers={"host": NAME}, limits=only, event_hooks=hooks), name)
        self.spec = spec_digest(Spec.of(LARGE))
        self.fetched: dict[str, int] = {}
        self._socket: Any = None

    async def _came(self, response: httpx.Response) -> None:
        self._socket = response.extensions["network_stream"].get_extra_info("socket")
        if "/v1/payloads/" in response.url.path:
            assert response.status_code == 200
            self.fetched[response.url.path] = int(response.headers["content-length"])

    async def answer(self, task: str, data: bytes, examples: int, **extra: Any) -> httpx.Response:
        info = tcp_info(self._socket)
        link = None if info is None else (info.sent, info.received)
        return await super().answer(task, data, examples, link=link, **extra)


async def _run(served: Served, url: str, names: list[str]) -> list[_Client]:
    clients, invite = [_Client(url, name) for name in names], served.invite()
    try:
        for client in clients:
            await client.enrol(invite)
        await asyncio.gather(*(client.work() for client in clients))
    finally:
        for client in clients:
            await client.http.aclose()
    return clients


@pytest.mark.parametrize("payloads", ["public", "private"])
def test_behind_a_cache_a_public_payload_crosses_once_and_a_private_one_for_each(
    serve: Callable[..., Served], tmp_path: Path, payloads: str
) -> None:
    served, names = serve(trusted_proxies="127.0.0.1"), [f"far-{index}" for index in range(CLIENTS)]
    with proxied(tmp_path, SHIPPED_SITES["nginx-cache.conf"], served.port) as url:
        run = served.run(LARGE, payloads=payloads, rounds=ROUNDS, cohort=CLIENTS, evaluate=False, settings=SETTINGS)
        clients = asyncio.run(_run(served, url, names))
        fetched = {path: size for client in clients for path, size in client.fetched.items()}
        own = {path: size for path, size in fetched.items() if size < len("far-0") + 5}
        parts = {path: size for path, size in fetched.items() if path not in own}
        # In the first round a part for each client alone comes beside the large one, by digest, too.
        assert (len(own), len(parts)) == (CLIENTS, ROUNDS)
        assert all(client.fetched.keys() >= parts.keys() for client in clients)
        once = sum(parts.values())
        rows = served.get(f"/v1/runs/{run['id']}/ledger").json()["rows"]
        with httpx.Client(base_url=url, headers={"host": NAME}) as anybody:
            for path, size in fetched.items():
                public = payloads == "public" and path in parts
                found = anybody.get(path, headers={"range": f"bytes={size - 2}-"})
                assert found.status_code == (206 if public else 401)
                if public:
                    assert len(found.content) == 2
                    assert found.headers["etag"] == f'"{path.rsplit("/", 1)[1]}"'
                    assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    sent = [row for row in rows if row["downlink_payload_bytes"] > 1000]
    of_clients = {row["client"] for row in sent}
    if payloads == "public":
        assert (of_clients, sum(row["requests"] for row in sent)) == ({""}, ROUNDS)
        assert sum(row["downlink_payload_bytes"] for row in sent) == once
    else:
        assert of_clients == set(names)
        assert sum(row["downlink_payload_bytes"] for row in sent) == once * CLIENTS + sum(own.values())
    _check_what_the_cache_sent(rows, names, payloads, once)
    expected = simulate(LARGE, 0, [names] * ROUNDS, SETTINGS, ROUNDS, cohort=CLIENTS)
    ended = load(served.get(f"/v1/runs/{run['id']}/model").content)
    assert all((ended[name] == array).all() for name, array in expected.items())


def _check_what_the_cache_sent(rows: list[dict[str, Any]], names: list[str], payloads: str, size: int) -> None:
    """What clients' kernels have counted beyond the coordinator, by client: what the cache sent, and what nginx adds to
    each response.
    """
    for name in names:
        lacking = [row for row in rows if (row["client"], row["kind"]) == (name, "unaccounted")]
        assert all(row["run"] == "" for row in lacking)
        down = sum(row["downlink_framing_bytes"] for row in lacking)
        least = size if payloads == "public" else 0
        assert least <= down < least + 5000, (name, down, size)
