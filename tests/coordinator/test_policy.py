"""Over-selection, declined tasks; pause, resume, stop; budgets. What waits for a deadline: tests/lead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, model
from thinwire.protocol.encoding import decode_message
from thinwire.protocol.messages import DeclineMessage, Problem, TaskMessage, VerdictMessage


async def clients_of(http: httpx.AsyncClient, served: Served, count: int) -> list[NumpyClient]:
    invite = served.invite()
    clients = [NumpyClient(http, f"client-{index:02}") for index in range(count)]
    for client in clients:
        await client.enrol(invite)
    return clients


async def until(http: httpx.AsyncClient, run: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The run's view once the condition holds; bounded."""
    for _ in range(1500):
        view: dict[str, Any] = (await http.get(f"/v1/runs/{run}")).json()
        if holds(view):
            return view
        await asyncio.sleep(0.02)
    raise AssertionError(view)


async def answered(client: NumpyClient, message: TaskMessage | None) -> str:
    assert message is not None
    data, examples = client.perform(await client.fetch(message))
    response = await client.answer(message.task, data, examples)
    return decode_message(VerdictMessage, response.content).verdict


def test_over_selected_answers_beyond_the_cohort_are_late(served: Served) -> None:
    served.run(cohort=2, rounds=1, evaluate=False, **{"over-select": 2.0, "min-clients": 4})

    async def play() -> list[str]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = await clients_of(http, served, 4)
            tasks = await asyncio.gather(*(client.register() for client in clients))
            received = [await client.fetch(task) for client, task in zip(clients, tasks, strict=True) if task]
            verdicts = []
            for client, one in zip(clients, received, strict=True):
                response = await client.answer(one.message.task, *client.perform(one))
                verdicts.append(decode_message(VerdictMessage, response.content).verdict)
            return verdicts

    assert asyncio.run(play()) == ["accepted", "accepted", "late", "late"]


async def declined(client: NumpyClient, task: TaskMessage, why: str = "cannot") -> int:
    return (await client.send(f"/v1/tasks/{task.task}/decline", DeclineMessage(detail=why))).status_code


def test_a_task_that_is_declined_is_given_to_another_client_at_once(served: Served) -> None:
    run = served.run(cohort=1, rounds=1, evaluate=False)["id"]

    async def play() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            unable, able = await clients_of(http, served, 2)
            task = await unable.register()
            assert task is not None
            assert await declined(able, task) == 404
            data, examples = unable.perform(await unable.fetch(task))
            for _ in range(2):
                assert await declined(unable, task) == 204
            # There is no deadline: but for the decline nobody else would ever be asked.
            assert await answered(able, await able.register(30)) == "accepted"
            late = await unable.answer(task.task, data, examples)
            assert decode_message(VerdictMessage, late.content).verdict == "late"
            await until(http, run, lambda view: view["state"] == "finished")
            assert await declined(unable, task) == 204

    asyncio.run(play())
    assert served.get(f"/v1/runs/{run}/metrics").json()["exchanges"][0]["answers"] == 1


def test_an_answer_that_counts_is_not_taken_back_by_declining(served: Served) -> None:
    run = served.run(cohort=2, rounds=1, evaluate=False)["id"]

    async def play() -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            first, second = await clients_of(http, served, 2)
            tasks = await asyncio.gather(first.register(), second.register())
            assert tasks[0] is not None
            assert await answered(first, tasks[0]) == "accepted"
            assert await declined(first, tasks[0]) == 204
            assert await answered(second, tasks[1]) == "accepted"
            return await until(http, run, lambda view: view["state"] == "finished")

    assert asyncio.run(play())["outcome"] == "completed"
    assert served.get(f"/v1/runs/{run}/metrics").json()["exchanges"][0]["answers"] == 2


def test_a_run_that_nobody_can_serve_pauses_and_says_why_also_after_a_restart(served: Served) -> None:
    run = served.run(cohort=1, rounds=1, evaluate=False, **{"max-offers": 2})["id"]

    async def play() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            (client,) = await clients_of(http, served, 1)
            task = await client.register()
            assert task is not None
            assert await declined(client, task, "no memory") == 204
            served.kill()
            served.start()
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client.http = http
            task = await client.register(30)
            assert task is not None
            assert await declined(client, task, "no memory") == 204
            view = await until(http, run, lambda view: view["state"] == "paused")
            assert view["reason"] == "round 1: 0 of 1 answers after 2 offers; client-00 declined: no memory"

    asyncio.run(play())


@pytest.mark.parametrize("drop", [False, True])
def test_pause_and_resume(served: Served, drop: bool) -> None:
    run = served.run(cohort=2, rounds=2, evaluate=False)["id"]
    body = {"open": "drop" if drop else "finish"}

    async def play() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = await clients_of(http, served, 2)
            tasks = await asyncio.gather(*(client.register() for client in clients))
            assert await answered(clients[0], tasks[0]) == "accepted"
            paused = await http.post(f"/v1/runs/{run}/pause", json=body, headers=served.operator)
            assert paused.json()["state"] == ("paused" if drop else "running")
            assert await answered(clients[1], tasks[1]) == ("late" if drop else "accepted")
            view = await until(http, run, lambda view: view["state"] == "paused")
            assert view["exchange"] == (0 if drop else 1)
            assert await clients[0].register(0) is None
            await http.post(f"/v1/runs/{run}/resume", json={}, headers=served.operator)
            await asyncio.gather(*(client.work() for client in clients))
            view = await until(http, run, lambda view: view["state"] == "finished")
            assert view["outcome"] == "completed"
            wrong = await http.post(f"/v1/runs/{run}/resume", json={}, headers=served.operator)
            assert decode_message(Problem, wrong.content, "application/json").reason == "run-state"

    asyncio.run(play())


@pytest.mark.parametrize("drop", [False, True])
def test_stop(served: Served, drop: bool) -> None:
    run = served.run(cohort=1, rounds=5)["id"]

    async def play() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            (client,) = await clients_of(http, served, 1)
            task = await client.register()
            body = {"open": "drop" if drop else "finish"}
            await http.post(f"/v1/runs/{run}/stop", json=body, headers=served.operator)
            assert task is not None
            received = None if drop else await client.fetch(task)
            if received is not None:
                data, examples = client.perform(received)
                await client.answer(task.task, data, examples)
            view = await until(http, run, lambda view: view["state"] == "finished")
            assert (view["outcome"], view["exchange"]) == ("stopped", 0 if drop else 1)
            await client.work()  # 410: the run is over

    asyncio.run(play())


def test_two_runs_share_their_clients(served: Served) -> None:
    for name in ("one", "two"):
        served.run(name=name, cohort=2, rounds=2)

    async def play() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = await clients_of(http, served, 2)
            await asyncio.gather(*(client.work() for client in clients))

    asyncio.run(play())
    assert [run["outcome"] for run in served.get("/v1/runs").json()["runs"]] == ["completed", "completed"]


def test_a_client_revoked_between_two_steps_is_not_waited_for(served: Served) -> None:
    """The cohort of the second step is given, and one of it is shut out while no exchange is open."""
    run = served.run(cohort=2, quorum=1, rounds=1, evaluate=False, settings={"steps": 2})["id"]

    async def play() -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = await clients_of(http, served, 2)
            tasks = await asyncio.gather(*(client.register() for client in clients))
            await asyncio.to_thread(served.post, f"/v1/runs/{run}/pause", {"open": "finish"})
            for client, task in zip(clients, tasks, strict=True):
                assert await answered(client, task) == "accepted"
            await until(http, run, lambda view: view["state"] == "paused")
            gone = await http.delete("/v1/clients/client-01", headers=served.operator)
            assert gone.status_code == 204
            await asyncio.to_thread(served.post, f"/v1/runs/{run}/resume", {})
            assert await answered(clients[0], await clients[0].register()) == "accepted"
            return await until(http, run, lambda view: view["state"] == "finished")

    assert asyncio.run(play())["outcome"] == "completed"


def test_no_round_begins_that_would_pass_the_budget(served: Served) -> None:
    def bytes_of(exchanges: list[dict[str, Any]]) -> int:
        return sum(int(one["uplink_bytes"]) + int(one["downlink_bytes"]) for one in exchanges)

    async def play() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = await clients_of(http, served, 2)

            async def spend(**settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
                run = served.run(arrays=model(2000), **settings)["id"]
                await asyncio.gather(*(client.work() for client in clients))
                view = await until(http, run, lambda view: bool(view["state"] == "finished"))
                return view, (await http.get(f"/v1/runs/{run}/metrics")).json()["exchanges"]

            view, free = await spend(name="free", rounds=3)
            assert [one["kind"] for one in free] == ["train"] * 3 + ["evaluate"]
            assert "reason" not in view
            budget = bytes_of(free) - bytes_of(free[2:3]) // 2
            view, kept = await spend(name="kept", rounds=50, **{"max-bytes": budget})
            assert [one["kind"] for one in kept] == ["train"] * 2 + ["evaluate"]
            assert bytes_of(kept) <= budget
            assert view["outcome"] == "completed"
            assert f"of {budget} bytes were spent" in view["reason"]
            _, whole = await spend(name="whole", rounds=3, **{"max-bytes": 2 * bytes_of(free)})
            assert len(whole) == len(free)

    asyncio.run(play())


def test_a_budget_that_would_not_last_lowers_bits_and_all_rounds_are_played(served: Served) -> None:
    chains = {"uplink": "quantise(12), zstd", "evaluate": False, "rounds": 5}

    async def play() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = await clients_of(http, served, 2)

            async def spend(**settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
                run = served.run(arrays=model(2000), **chains, **settings)["id"]
                await asyncio.gather(*(client.work() for client in clients))
                view = await until(http, run, lambda view: bool(view["state"] == "finished"))
                return view, (await http.get(f"/v1/runs/{run}/metrics")).json()["exchanges"]

            _, free = await spend(name="free")
            spent = [one["uplink_bytes"] + one["downlink_bytes"] for one in free]
            budget = int(0.9 * sum(spent))
            view, kept = await spend(name="kept", **{"max-bytes": budget, "least-bits": 1})
            assert (view["outcome"], view.get("reason")) == ("completed", None)
            assert len(kept) == 5
            assert "lowered" not in kept[0]
            lowered = [one["lowered"] for one in kept if "lowered" in one]
            assert lowered
            assert all(one.startswith("at most ") for one in lowered)
            assert sum(one["uplink_bytes"] + one["downlink_bytes"] for one in kept) <= budget

    asyncio.run(play())
