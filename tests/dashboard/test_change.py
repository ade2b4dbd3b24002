"""A paused run gets more rounds, another quorum, deadline or budget, and goes on with them, also after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.coordinator.numpy_client import NumpyClient
from tests.dashboard.house import Site, site


async def change(here: Site, **wanted: object) -> tuple[int, dict[str, object]]:
    answer = await here.http.post("/v1/runs/night/settings", json=wanted, headers=here.operator)
    return answer.status_code, answer.json()


def test_more_rounds_and_a_lower_quorum(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.run(cohort=3, quorum=3, rounds=2, max_offers=1)
            status, told = await change(here, rounds=4)
            assert (status, told["reason"]) == (409, "run-state")
            clients = [await here.client(name) for name in ("anna", "bert", "cleo")]
            tasks = [one for one in await asyncio.gather(*(client.register() for client in clients)) if one is not None]
            assert len(tasks) == 3
            await here.http.post("/v1/runs/night/pause", json={"open": "drop"}, headers=here.operator)
            for wrong in ({"rounds": 1}, {"quorum": 4}):
                status, told = await change(here, **wrong)
                assert (status, told["reason"]) == (422, "run-invalid"), wrong
            await here.log_in()
            assert "Change what it goes on with" in await here.page("/runs/night")
            answer = await here.send("/runs/night/settings", rounds="3", quorum="2", deadline_s="2", max_bytes="")
            assert answer.status_code == 303, answer.text
            view = (await here.http.get("/v1/runs/night")).json()
            assert (view["rounds"], view["settings"]["quorum"], view["settings"]["deadline-s"]) == (3, 2, 2.0)
            assert (await here.twin("/audit"))["deeds"][0]["said"].endswith("rounds 3, quorum 2, deadline_s 2")
            tokens = {client.name: client.token for client in clients}
        async with site(tmp_path) as here:
            await here.http.post("/v1/runs/night/resume", json={}, headers=here.operator)
            clients = [NumpyClient(here.http, name, token=tokens[name]) for name in ("anna", "bert")]
            # Two of three are enough now, and there is one round more.
            await asyncio.gather(*(client.work() for client in clients))
            view = (await here.http.get("/v1/runs/night")).json()
            assert (view["state"], view["outcome"], view["rounds"]) == ("finished", "completed", 3)
            closed = (await here.http.get("/v1/runs/night/metrics")).json()["exchanges"]
            assert [one["answers"] for one in closed if one["kind"] != "evaluate"] == [2, 2, 2]

    asyncio.run(work())
