"""Pages of runs: what they say is what the interface says, and who is missing is named."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.coordinator.numpy_client import NumpyClient
from tests.dashboard.house import Site, site
from thinwire.coordinator.dashboard import static
from thinwire.coordinator.records.participation import Effort
from thinwire.coordinator.serve.attendance import stretch
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import DeclineMessage

MOST_BYTES = 120_000


async def trained(here: Site) -> str:
    """A run of three rounds, over."""
    run = await here.run()
    await asyncio.gather(*[(await here.client(name)).work() for name in ("anna", "bert")])
    return run


def test_every_page_is_its_json(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            run = await trained(here)
            for path, twin in (("/", "/runs.json"), ("/runs/night", None), ("/compare?run=night", None)):
                text = await here.page(path)
                told = await here.twin(path)
                bare, _, query = path.partition("?")
                assert await here.twin((twin or f"{bare}.json") + (f"?{query}" if query else "")) == told
                assert "night" in text
            (one,) = (await here.twin("/"))["runs"]
            asked = (await here.http.get(f"/v1/runs/{run}")).json()
            assert one["run"] == asked
            metrics = (await here.http.get(f"/v1/runs/{run}/metrics")).json()["exchanges"]
            assert (one["score"], one["newest"]) == ("accuracy", metrics[-1]["metrics"]["accuracy"])
            detail = await here.twin("/runs/night")
            assert detail["exchanges"] == metrics
            assert [row["counted"] for row in detail["attendance"]["exchanges"]] == [2, 2, 2, 2]
            (beside,) = (await here.twin("/compare?run=night"))["runs"]
            assert beside["uplink_bytes"] == sum(row["uplink_bytes"] for row in metrics[:-1])

    asyncio.run(work())


def test_every_other_page_has_a_twin_at_its_address(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await trained(here)
            await here.log_in()
            for path in (
                "/runs/night/rounds", "/clients", "/clients/anna", "/invites", "/problems", "/activity", "/audit",
                "/activity?run=night", "/bill", "/bill?run=night",
            ):  # fmt: skip
                bare, _, query = path.partition("?")
                told, twin = await here.twin(path), await here.twin(f"{bare}.json" + (f"?{query}" if query else ""))
                assert told.keys() == twin.keys(), path
                # Rates and days are as of now; what has happened is the same.
                assert all(told[key] == twin[key] for key in told.keys() - {"clients"}), path
                assert "<main" in await here.page(path), path

    asyncio.run(work())


def test_who_gave_no_answer_is_marked_in_the_timeline(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.run(cohort=3, quorum=2, rounds=1, evaluate=False)
            clients = [await here.client(name) for name in ("anna", "bert", "cleo")]
            tasks = await asyncio.gather(*(client.register() for client in clients))
            for client, task in zip(clients[:2], tasks, strict=False):
                assert task is not None
                await client.answer(task.task, *client.perform(await client.fetch(task)))
            await here.http.delete("/v1/clients/cleo", headers=here.operator)  # nobody waits for it any more
            while (told := await here.twin("/runs/night"))["run"]["state"] != "finished":
                await asyncio.sleep(0.05)
            lanes = {one["client"]: one for one in told["timeline"]["stretches"]}
            assert {name: one["answered"] for name, one in lanes.items()} == {"anna": True, "bert": True, "cleo": False}
            assert lanes["cleo"]["straggler"]
            for one in lanes.values():
                parts = [one[f"{part}_s"] for part in ("before", "download", "train", "upload", "wait")]
                assert min(parts) >= 0
                assert sum(parts) == pytest.approx(told["timeline"]["seconds"])
            text = await here.page("/runs/night")
            marked = re.findall(r'class="lane late"><span class="name" title="(\w+)"', text)
            assert set(marked) == {name for name, one in lanes.items() if one["straggler"]}

    asyncio.run(work())


@pytest.mark.parametrize(
    ("took", "closed", "late"),
    [(10.0, True, False), (15.0, True, False), (15.1, True, True), (None, True, True), (None, False, True)],
)
def test_a_straggler_took_more_than_half_as_long_again(took: float | None, closed: bool, late: bool) -> None:
    arrived_at = None if took is None else 1000.0 + took
    effort = Effort("anna", "open", arrived_at, {"seconds": 4.0}, 2.0, 3.0)
    found = stretch(effort, 1000.0, 20.0, 10.0, closed=closed)
    assert (found.straggler, found.answered) == (late, took is not None)
    assert found.busy_s + found.wait_s == 20.0
    assert (found.download_s, found.train_s, found.upload_s) == (2.0, 4.0, 3.0 if took else 0.0)


def test_a_run_without_accuracy_is_judged_by_the_tasks_own_scores(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            for name, first in (("far", 8.0), ("near", 4.0)):
                run = await here.run(name, cohort=1, group=name)
                anna = NumpyClient(here.http, f"of-{name}")
                await anna.enrol(await here.invite(group=name))
                for index in range(4):
                    task = await anna.register()
                    assert task is not None
                    data, examples = anna.perform(await anna.fetch(task))
                    here.service.ledger.record((run, anna.name, index, "answer"), Bytes(uplink_payload=100))
                    scores = {"loss": 2.0 / (index + 1), "rmse": first / 2**index, "r2": index / 4}
                    await anna.answer(task.task, data, examples, metrics=scores)
                assert (await here.twin(f"/runs/{run}"))["scores"] == ["r2", "rmse", "loss"]
            glance = (await here.twin("/"))["runs"][0]
            assert (glance["score"], glance["newest"], glance["curve"]) == ("r2", 0.75, [0.0, 0.25, 0.5, 0.75])
            text = await here.page("/runs/near")
            assert "<dt>R2</dt><dd>0.7500" in text
            assert "<dt>Rmse</dt><dd>0.5000" in text
            assert '"rmse": 0.5' in text  # what the curve is drawn from
            assert "Accuracy" not in text
            told = await here.twin("/compare?run=far&run=near&score=rmse")
            assert (told["score"], told["lower"], told["baseline"]) == ("rmse", True, "far")
            assert abs(told["target"] - 1.0 / 0.98) < 1e-9
            far, near = told["runs"]
            assert (far["best"], near["best"], near["newest"]) == (1.0, 0.5, 0.5)
            # Two rounds against three.
            assert near["bytes_to_target"] == near["rounds"][2]["total_bytes"]
            assert far["bytes_to_target"] == far["rounds"][3]["total_bytes"]
            assert "Bytes to rmse at most" in await here.page("/compare?run=far&run=near&score=rmse&target=1")
            assert (await here.twin("/compare?run=far&score=nonsense"))["score"] == "r2"

    asyncio.run(work())


def test_who_is_missing_is_named_with_the_reason(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            run = await here.run(cohort=3, quorum=1, deadline_s=1.0)
            anna, bert, cleo = [await here.client(name) for name in ("anna", "bert", "cleo")]
            first, second, third = await asyncio.gather(anna.register(), bert.register(), cleo.register())
            assert first is not None
            assert second is not None
            assert third is not None
            await bert.send(f"/v1/tasks/{second.task}/decline", DeclineMessage(detail="out of memory"))
            received = await anna.fetch(first)
            await anna.answer(first.task, *anna.perform(received))
            path = f"/v1/runs/{run}/attendance"
            while not (told := (await here.http.get(path)).json()["exchanges"])[0]["counted"]:
                await asyncio.sleep(0.02)
            (open_,) = told[:1]
            assert (open_["counted"], open_["asked"]) == (1, 3)
            why = {one["client"]: one["why"] for one in open_["absent"]}
            assert why["bert"] == "declined: out of memory"
            assert why["cleo"] == "at work" or why["cleo"].startswith("silent since")
            assert open_["said"].startswith("1 of 3; bert declined: out of memory; cleo ")
            while len(told := (await here.http.get(path)).json()["exchanges"]) < 2:
                await asyncio.sleep(0.05)
            assert re.fullmatch(r"silent since \d\d:\d\d UTC|too late", told[0]["absent"][1]["why"])
            text = await here.page("/runs/night")
            assert "declined: out of memory" in text
            assert {"anna", "bert", "cleo"} <= set(re.findall(r'class="name" title="(\w+)"', text))
            with_problem = await here.http.get("/runs/nobody", headers={"accept": "text/html"})
            assert (with_problem.status_code, "run-not-found" in with_problem.text) == (404, True)

    asyncio.run(work())


def test_answers_are_counted_of_those_who_were_asked(tmp_path: Path) -> None:
    """Fewer than the cohort, where fewer are there: the figure on top is the one of the table."""

    async def work() -> None:
        async with site(tmp_path) as here:
            await here.run(cohort=3, quorum=1, min_clients=2, deadline_s=60.0)
            anna, bert = await here.client("anna"), await here.client("bert")
            first, second = await asyncio.gather(anna.register(), bert.register())
            assert first is not None
            assert second is not None
            text = await here.page("/runs/night")
            assert '<td class="t num">0 of 2</td>' in text
            assert "<dd>0 of 2<small>cohort 3, quorum 1, deadline 1 min" in text

    asyncio.run(work())


def test_pages_load_nothing_from_elsewhere_and_little(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await trained(here)
            await here.log_in()
            for path in ("/", "/runs/night", "/compare?run=night", "/login", "/runs/night/rounds"):
                response = await here.http.get(path, headers={"accept": "text/html"})
                policy = response.headers["content-security-policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                text = response.text
                assert not re.search(
                    r"""<style|\sstyle=|\son\w+=|javascript:|(?:src|href|action)=["']?(?:https?:)?//""", text
                )
                assert all("application/json" in one for one in re.findall(r"<script(?![^>]*src=)[^>]*>", text))
                loaded = re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
                parts = [await here.http.get(one) for one in loaded]
                assert {part.status_code for part in parts} == {200}
                assert len(response.content) + sum(len(part.content) for part in parts) <= MOST_BYTES
                again = await here.http.get(loaded[0], headers={"if-none-match": parts[0].headers["etag"]})
                assert again.status_code == 304
            assert (await here.http.get("/static/../page.py")).status_code == 404
            assert (await here.http.get("/static/secret")).status_code == 404
            assert b"uPlot (v1.6.32)" in static.content("uplot-1.6.32.min.js")[0]

    asyncio.run(work())


def test_what_clients_say_is_never_markup(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.run(cohort=1, quorum=1, deadline_s=30.0, max_offers=1)
            anna = await here.client("anna")
            task = await anna.register()
            assert task is not None
            await anna.send(f"/v1/tasks/{task.task}/decline", DeclineMessage(detail="<script>alert(1)</script>"))
            while (await here.http.get("/v1/runs/night")).json()["state"] != "paused":
                await asyncio.sleep(0.02)
            text = await here.page("/runs/night")
            assert "<script>alert" not in text
            assert "&lt;script&gt;alert(1)" in text

    asyncio.run(work())
    source = static.content("thinwire.js")[0] + static.content("charts.js")[0]
    assert not re.search(rb"innerHTML|outerHTML\s*=[^=]|insertAdjacentHTML|document\.write|\beval\b", source)


async def next_events(here: Site, last: int | None, count: int) -> list[tuple[int, str, dict[str, object]]]:
    """The next so many events of all runs behind this one."""
    from thinwire.coordinator.serve.events import Events

    events = here.app.state.parts[Events]
    found: list[tuple[int, str, dict[str, object]]] = []
    async for block in events.of_all(last, lambda: None):
        fields = dict(line.split(": ", 1) for line in block.decode().splitlines() if ": " in line)
        if "data" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
        if len(found) == count:
            break
    return found


def test_a_cut_loses_no_event(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            run = await trained(here)
            over = await here.http.get(f"/v1/runs/{run}/events")
            assert over.headers["content-type"].startswith("text/event-stream")
            assert over.headers["x-accel-buffering"] == "no"
            before = await next_events(here, 0, 6)
            assert [number for number, _, _ in before] == list(range(1, 7))
            # Whoever is cut off here hears all that follows, and nothing twice.
            behind = await next_events(here, 6, 6)
            assert [number for number, _, _ in behind] == list(range(7, 13))
            assert {told["run"] for _, _, told in before + behind} == {run}
            assert {kind for _, kind, _ in before + behind} == {"run", "answer", "exchange"}

    asyncio.run(work())


def test_of_an_asynchronous_run_it_says_whose_answers_counted_and_how_old_they_were(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            settings = {"rounds": 2, "evaluate": False, "max-staleness": 2, "concurrency": 3, "min-clients": 3}
            run = await here.run(**settings)
            clients = [await here.client(name) for name in ("anna", "bert", "cleo")]
            anna, bert, cleo = clients
            tasks = await asyncio.gather(*(one.register(30) for one in clients))
            for client, task in ((anna, tasks[0]), (bert, tasks[1])):
                assert task is not None
                await client.answer(task.task, *client.perform(await client.fetch(task)))
            assert tasks[2] is not None
            new = await anna.register(30)
            assert new is not None
            assert new.exchange == 1
            await cleo.answer(tasks[2].task, *cleo.perform(await cleo.fetch(tasks[2])))
            await anna.answer(new.task, *anna.perform(await anna.fetch(new)))
            first, second = (await here.twin(f"/runs/{run}"))["attendance"]["exchanges"]
            assert first["came"] == [{"client": "anna", "staleness": 0}, {"client": "bert", "staleness": 0}]
            assert second["came"] == [{"client": "anna", "staleness": 0}, {"client": "cleo", "staleness": 1}]
            assert (first["said"], second["counted"], second["asked"]) == ("2 of 2: anna new, bert new", 2, 2)
            assert second["said"].startswith("2 of 2: anna new, cleo 1 exchange old")
            assert "1 exchange old" in await here.page(f"/runs/{run}")
            metrics = (await here.http.get(f"/v1/runs/{run}/metrics")).json()["exchanges"]
            assert [one["staleness"] for one in metrics] == [[2], [1, 1]]

    asyncio.run(work())
