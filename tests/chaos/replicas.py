"""Two or more coordinators over one database and one store, disturbed at random instants: `python -m
tests.chaos.replicas --replicas 2 --disturbances 20`.

Each disturbance kills, stops, or freezes a coordinator beyond the end of its leases, or cuts all connections to the
database. Clients ask whichever coordinator answers. At the end the model has the bits of the plain loop.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, model
from tests.coordinator.test_replicas import LEADS, NAMES, Spread, cut_database, replicas
from tests.postgres_server import PostgresServer, postgres_server

KINDS = ("kill", "stop", "freeze", "cut")
FROZEN_S = 6.0
EXCHANGES = 4
"""Between two disturbances, about."""


async def disturb(kind: str, served: list[Served], postgres: PostgresServer, chance: random.Random) -> None:
    """Does it, and has everybody there again."""
    if kind == "cut":
        await cut_database(served, postgres)
        return
    one = chance.choice(served)
    assert one.process is not None
    if kind == "freeze":
        one.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(FROZEN_S)
        one.process.send_signal(signal.SIGCONT)
    else:
        await asyncio.to_thread(one.kill if kind == "kill" else one.stop)
        await asyncio.to_thread(one.start)


def play(count: int, disturbances: int, seed: int) -> bool:
    """Whether everything was as it must be."""
    chance, done = random.Random(seed), Counter[str]()
    rounds, settings = max(2, disturbances * EXCHANGES), {"steps": 1, "delta": True}
    with tempfile.TemporaryDirectory() as place, postgres_server(Path(place) / "postgres") as postgres:
        folder = Path(place)
        with replicas(postgres, folder, count) as served:
            run = served[0].run(model(200), rounds=rounds, cohort=3, settings=settings)["id"]
            invite, operator = served[0].invite(), served[0].operator

            async def work() -> None:
                urls = [one.url for one in served]
                async with httpx.AsyncClient(transport=Spread(*urls), base_url=urls[0], timeout=60) as http:
                    clients = [NumpyClient(http, name) for name in NAMES]
                    for client in clients:
                        await client.enrol(invite)
                    working = asyncio.gather(*(client.work() for client in clients))
                    while sum(done.values()) < disturbances and not working.done():
                        await asyncio.sleep(chance.random())
                        kind = chance.choice(KINDS)
                        await disturb(kind, served, postgres, chance)
                        done[kind] += 1
                    await working

            asyncio.run(work())
            found = load(httpx.get(f"{served[0].url}/v1/runs/{run}/model", headers=operator, timeout=60).content)
            expected = simulate(model(200), 0, [NAMES] * rounds, settings, rounds, cohort=3)
            same = all(np.array_equal(found[name], expected[name]) for name in expected)
            epochs = [int(epoch) for one in served for epoch in LEADS.findall(one.log)]
            once = len(epochs) == len(set(epochs))
            print(f"{rounds} rounds, {dict(done)}, {len(epochs)} leaders: ", end="")
            print(
                f"model {'identical' if same else 'DIFFERENT'}, epochs {'apart' if once else 'GIVEN TWICE'}", flush=True
            )
            return same and once


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--disturbances", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(0 if play(given.replicas, given.disturbances, given.seed) else 1)
