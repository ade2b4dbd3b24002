"""Many devices behind one thin link: payloads cross it once, the model is to the bit that of a run without a relay, and
neither a cut link nor a killed relay costs a device more than patience.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.numpy import load

from benchmarks.counting_proxy import CountingProxy
from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, model
from tests.coordinator.test_chaos import Stubborn
from tests.relay.relayed import Relayed
from thinwire.codecs import Spec
from thinwire.protocol.encoding import MSGPACK, decode_message, spec_digest
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.messages import Problem

DEVICES, ROUNDS = 5, 2
LARGE = model(20_000)
NAMES = [f"far-{index}" for index in range(DEVICES)]
FRAMING = 2_000
"""More than the control messages of a device and an exchange take on the downlink."""


@pytest.fixture
def link(serve: Callable[..., Served], tmp_path: Path) -> Iterator[tuple[Served, CountingProxy, Relayed]]:
    """A coordinator, the link to it, and a relay at the other end."""
    served = serve()
    with CountingProxy(served.url) as proxy:
        relay = Relayed(proxy.url, tmp_path)
        relay.start()
        try:
            yield served, proxy, relay
        finally:
            relay.kill()
            assert "Traceback" not in relay.log, relay.log[-5000:]


async def _work(served: Served, url: str) -> list[NumpyClient]:
    """All devices until the run is over; whatever breaks, they ask again."""
    async with Stubborn(base_url=url, timeout=60, limits=httpx.Limits(max_connections=None)) as http:
        clients = [NumpyClient(http, name, spec=spec_digest(Spec.of(LARGE))) for name in NAMES]
        invite = served.invite()
        for client in clients:
            await client.enrol(invite)
        await asyncio.gather(*(client.work(stubborn=True) for client in clients))
    return clients


def _check_model(served: Served, run: str, settings: dict[str, Any], rounds: int = ROUNDS) -> None:
    expected = simulate(LARGE, 0, [NAMES] * rounds, settings, rounds, cohort=DEVICES)
    found = load(served.get(f"/v1/runs/{run}/model").content)
    assert all((found[name] == array).all() for name, array in expected.items())


def test_the_link_carries_each_payload_once_and_the_model_is_the_same(
    link: tuple[Served, CountingProxy, Relayed],
) -> None:
    served, proxy, relay = link
    settings = {"private": True}
    run = served.run(LARGE, rounds=ROUNDS, cohort=DEVICES, evaluate=False, settings=settings)["id"]
    clients = asyncio.run(_work(served, relay.url))
    _check_model(served, run, settings)
    assert all(client.verdicts == ["accepted"] * ROUNDS for client in clients)
    broadcast = sum(path.stat().st_size for path in (relay.folder / "payloads").iterdir())
    assert broadcast > ROUNDS * 250_000
    up, down = proxy.total
    print(f"{DEVICES} devices, {ROUNDS} rounds: link up {up}, down {down}; kept {broadcast}")
    assert broadcast < down < broadcast + DEVICES * ROUNDS * FRAMING
    # The ledger has what crossed, by device: downloads are those of whoever asked first.
    rows = served.get(f"/v1/runs/{run}/ledger").json()["rows"]
    assert {row["client"] for row in rows if row["kind"] == "answer"} == set(NAMES)
    counted = sum(row["downlink_payload_bytes"] + row["downlink_framing_bytes"] for row in rows if row["client"])
    assert counted == pytest.approx(down, rel=0.02)
    assert relay.end(signal.SIGTERM) == Exit.INTERRUPTED
    assert (relay.stats["link_up_bytes"], relay.stats["link_down_bytes"]) == proxy.total
    assert relay.stats["payload_bytes_given"] > 4 * relay.stats["payload_bytes_received"]
    assert not list((relay.folder / "uploads").iterdir())


def test_a_payload_is_given_to_nobody_but_those_who_may_have_it(link: tuple[Served, CountingProxy, Relayed]) -> None:
    served, _, relay = link
    served.run(LARGE, rounds=1, cohort=1, quorum=1, evaluate=False)

    async def play() -> None:
        async with httpx.AsyncClient(base_url=relay.url, timeout=60) as http:
            inside, colleague, outside = (NumpyClient(http, name) for name in ("inside", "colleague", "outside"))
            await inside.enrol(served.invite())
            await colleague.enrol(served.invite())
            await outside.enrol(served.invite(group="others"))
            task = await inside.register()
            assert task is not None
            await inside.fetch(task)
            digest = next(part.digest for part in task.parts if part.digest is not None)
            path = f"/v1/payloads/{digest.hex()}"
            whole = (await http.get(path, headers=inside.auth)).content
            assert hashlib.sha256(whole).digest() == digest
            # Nobody has told the colleague of it through this relay; the coordinator is asked.
            ranged = await http.get(path, headers={**colleague.auth, "range": "bytes=100-"})
            assert (ranged.status_code, ranged.content) == (206, whole[100:])
            unchanged = await http.get(path, headers={**inside.auth, "if-none-match": f'"{digest.hex()}"'})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            beyond = await http.get(path, headers={**inside.auth, "range": f"bytes={len(whole)}-"})
            assert beyond.status_code == 416
            for auth, reason in (
                (outside.auth, "payload-not-found"), ({}, "token-missing"),
                ({"authorization": "Bearer none"}, "token-invalid"),
            ):  # fmt: skip
                refused = await http.get(path, headers={**auth, "accept": MSGPACK})
                assert decode_message(Problem, refused.content).reason == reason
            for path in ("/", "/v1/runs", "/metrics"):
                assert (await http.get(path, headers=inside.auth)).json()["reason"] == "not-found"

    asyncio.run(play())


@pytest.mark.long
def test_neither_kills_of_the_relay_nor_cuts_of_the_link_change_a_bit(
    link: tuple[Served, CountingProxy, Relayed],
) -> None:
    served, proxy, relay = link
    rounds, instants = 5, random.Random(18)
    run = served.run(LARGE, rounds=rounds, cohort=DEVICES, evaluate=False, settings={"delta": True})["id"]
    kills = 0

    async def disturb() -> None:
        nonlocal kills
        while True:
            await asyncio.sleep(instants.uniform(0.3, 1.0))
            if instants.random() < 0.5:
                proxy.cut()
            else:
                await asyncio.to_thread(relay.kill)
                await asyncio.to_thread(relay.start)
                kills += 1

    async def play() -> None:
        disturbing = asyncio.create_task(disturb())
        try:
            clients = await _work(served, relay.url)
        finally:
            disturbing.cancel()
            await asyncio.gather(disturbing, return_exceptions=True)
        assert all(set(client.verdicts) <= {"accepted", "duplicate"} for client in clients)

    asyncio.run(play())
    print(f"{kills} kills; link {proxy.total}, {proxy.connections} connections")
    assert kills > 2
    _check_model(served, run, {"delta": True}, rounds)
