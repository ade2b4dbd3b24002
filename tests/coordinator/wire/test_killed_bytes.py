"""What a killed coordinator forgets of the bytes that crossed, beside a counting proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import httpx
import pytest

from benchmarks.counting_proxy import CountingProxy
from tests.coordinator.served import Served, model

LARGE: Final = 2_000_000
KILLS: Final = 4


@pytest.mark.long
def test_kills_in_the_middle_of_downloads_lose_little(serve: Callable[..., Served]) -> None:
    """32 MB are fetched at 2.5 MB a second; the coordinator is killed again and again while it does."""
    served = serve()
    run = served.run(model(LARGE), rounds=1, cohort=1, evaluate=False, chains="plain")["id"]
    reply = httpx.post(f"{served.url}/v1/clients", json={"invite": served.invite(), "name": "ann"})
    token = {"authorization": f"Bearer {reply.json()['token']}"}
    with CountingProxy(served.url) as proxy:
        task = httpx.post(f"{proxy.url}/v1/registrations?wait_s=20", json={}, headers=token).json()
        digest = task["parts"][0]["digest"]

        async def fetch(seconds: float) -> None:
            """At 2.5 MB a second, for so long."""
            async with httpx.AsyncClient(base_url=proxy.url, headers=token) as http:
                with contextlib.suppress(httpx.HTTPError, TimeoutError):
                    async with asyncio.timeout(seconds), http.stream("GET", f"/v1/payloads/{digest}") as body:
                        async for _ in body.aiter_raw(250_000):
                            await asyncio.sleep(0.1)

        async def fetch_and_kill() -> None:
            fetching = asyncio.create_task(fetch(60))
            await asyncio.sleep(8)
            served.kill()
            await fetching

        for _ in range(KILLS):
            asyncio.run(fetch_and_kill())
            served.start()
        crossed = sum(proxy.total)
    ledger = served.get(f"/v1/runs/{run}/ledger").json()
    counted = sum(value for row in ledger["rows"] for name, value in row.items() if name.endswith("link_payload_bytes"))
    counted += sum(
        value for row in ledger["rows"] for name, value in row.items() if name.endswith("link_framing_bytes")
    )
    print(f"{crossed} bytes crossed, {counted} counted: {counted / crossed - 1:+.2%}")
    assert abs(counted / crossed - 1) < 0.02
