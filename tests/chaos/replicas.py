"""Two or more coordinators over one database and one store, disturbed at random instants: `python -m
tests.chaos.replicas --replicas 2 --disturbances 20`.

Each disturbance, by a seeded list, kills whoever leads or another one, stops one, freezes the leader beyond the end of
its lease, cuts all connections to the database, or kills the proxy, where `--proxy` puts one in front. Clients ask
whichever coordinator answers. At the end the model has the bits of the plain loop, no epoch was given twice, and no
exchange stands on the state of an older leader than the one before it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, free_port, model
from tests.coordinator.test_proxied_replicas import PROXIES, Front
from tests.coordinator.test_replicas import LEADS, NAMES, Spread, cut_database, leader, replicas
from tests.postgres_server import PostgresServer, postgres_server

KINDS = ("leader", "follower", "stop", "freeze", "cut")
FROZEN_S = 6.0
REPLACED_WITHIN_S = 60.0
EXCHANGES = 4
"""Between two disturbances, about."""


class Disturbing:
    """Disturbs the coordinators, and the proxy before them. `taken_over_s`: how long each leader was missed."""

    def __init__(
        self,
        served: list[Served],
        postgres: PostgresServer,
        front: Front | None,
        frozen_s: float,
        chance: random.Random,
    ) -> None:
        self._served = served
        self._postgres = postgres
        self._front = front
        self._frozen_s = frozen_s
        self._chance = chance
        self.kinds = KINDS if front is None else (*KINDS, "proxy")
        self.taken_over_s: list[float] = []

    async def disturb(self, kind: str, working: asyncio.Future[Any]) -> None:
        """Does it, and has everybody there again."""
        leads = self._served[leader(self._served)]
        others = [one for one in self._served if one is not leads]
        match kind:
            case "cut":
                await cut_database(self._served, self._postgres)
            case "proxy":
                assert self._front is not None
                await asyncio.to_thread(self._front.kill)
                await asyncio.to_thread(self._front.start)
            case "leader":
                await asyncio.to_thread(leads.kill)
                await self._until_replaced(others, working)
                await asyncio.to_thread(leads.start)
            case "freeze":
                assert leads.process is not None
                leads.process.send_signal(signal.SIGSTOP)
                thaws_at = time.monotonic() + self._frozen_s
                await self._until_replaced(others, working)
                await asyncio.sleep(max(0.0, thaws_at - time.monotonic()))
                leads.process.send_signal(signal.SIGCONT)
            case _:
                one = self._chance.choice(others)
                await asyncio.to_thread(one.kill if kind == "follower" else one.stop)
                await asyncio.to_thread(one.start)

    async def _until_replaced(self, others: list[Served], working: asyncio.Future[Any]) -> None:
        """Another has taken the lead since, or there is nothing left to lead."""
        before, begun = {id(one): len(LEADS.findall(one.log)) for one in others}, time.monotonic()
        while not working.done():
            missed_s = time.monotonic() - begun
            if any(len(LEADS.findall(one.log)) > before[id(one)] for one in others):
                self.taken_over_s.append(missed_s)
                return
            assert missed_s < REPLACED_WITHIN_S, "nobody has taken the lead"
            await asyncio.sleep(0.02)


def ascends(one: Served, run: str) -> bool:
    """Whether each exchange of the run stands on a state of the same leader as the one before it, or of a later one."""
    import psycopg

    query = "SELECT state_epoch FROM exchanges WHERE run = %s AND state_epoch IS NOT NULL ORDER BY exchange"
    with psycopg.connect(str(one.options["database"])) as connection:
        epochs = [int(row[0]) for row in connection.execute(query, [run]).fetchall()]
    return bool(epochs) and epochs == sorted(epochs)


def play(count: int, disturbances: int, seed: int, frozen_s: float, proxy: str | None) -> bool:
    """Whether everything was as it must be."""
    chance, done = random.Random(seed), Counter[str]()
    rounds, settings = max(2, disturbances * EXCHANGES), {"steps": 1, "delta": True}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(postgres_server(folder / "postgres"))
        more = {} if proxy is None else {"trusted_proxies": "127.0.0.1"}
        served = stack.enter_context(replicas(postgres, folder, count, **more))
        front = None
        if proxy is not None:
            port = free_port()
            front = Front(folder, PROXIES[proxy](folder, port, [one.port for one in served]), port)
            stack.callback(front.kill)
            front.start()
        run = served[0].run(model(200), rounds=rounds, cohort=3, settings=settings)["id"]
        invite, operator = served[0].invite(), served[0].operator
        disturbing = Disturbing(served, postgres, front, frozen_s, chance)

        async def work() -> None:
            urls = [one.url for one in served] if front is None else [front.url]
            async with httpx.AsyncClient(transport=Spread(*urls), base_url=urls[0], timeout=60) as http:
                clients = [NumpyClient(http, name) for name in NAMES]
                for client in clients:
                    await client.enrol(invite)
                working = asyncio.gather(*(client.work() for client in clients))
                while not any(LEADS.search(one.log) for one in served):
                    await asyncio.sleep(0.05)
                while sum(done.values()) < disturbances and not working.done():
                    await asyncio.sleep(chance.random())
                    kind = chance.choice(disturbing.kinds)
                    await disturbing.disturb(kind, working)
                    done[kind] += 1
                await working

        asyncio.run(work())
        found = load(httpx.get(f"{served[0].url}/v1/runs/{run}/model", headers=operator, timeout=60).content)
        expected = simulate(model(200), 0, [NAMES] * rounds, settings, rounds, cohort=3)
        same = all(np.array_equal(found[name], expected[name]) for name in expected)
        epochs = [int(epoch) for one in served for epoch in LEADS.findall(one.log)]
        once, ascending = len(epochs) == len(set(epochs)), ascends(served[0], run)
        missed = disturbing.taken_over_s or [0.0]
        print(f"{rounds} rounds, {dict(done)}, {len(epochs)} leaders: ", end="")
        print(f"model {'identical' if same else 'DIFFERENT'}, epochs {'apart' if once else 'GIVEN TWICE'}, ", end="")
        print(f"states {'of one leader after the other' if ascending else 'OF TWO LEADERS'}, ", end="")
        print(f"taken over within {statistics.median(missed):.1f} s, {max(missed):.1f} s at most", flush=True)
        return same and once and ascending


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--disturbances", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frozen", type=float, default=FROZEN_S, help="seconds that a frozen leader sleeps")
    parser.add_argument("--proxy", choices=list(PROXIES), help="in front of two replicas")
    given = parser.parse_args()
    sys.exit(0 if play(given.replicas, given.disturbances, given.seed, given.frozen, given.proxy) else 1)
