"""The bill and what has happened are the ledger's bytes; a comparison is the command line's."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path

import pytest

from tests.dashboard.house import site
from tests.dashboard.test_runs import trained
from thinwire.coordinator.serve import activity
from thinwire.coordinator.serve.overview import Overview, Overviews, drawn, forecast
from thinwire.methods.rounds import Round, bytes_until, rounds_of, usual_target
from thinwire.operator.tables import total
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import Ledger, RunMetrics
from thinwire.protocol.settings import RunSettings


def test_the_bill_is_the_ledger(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            run = await trained(here)
            # Of no run: of a client of this one, of one that has no part in it, and of nobody.
            here.service.ledger.record(("", "anna", None, "idle"), Bytes(3, 0, 300, 0, 20))
            here.service.ledger.record(("", "anna", None, "unaccounted"), Bytes(0, 0, 0, 0, 500))
            here.service.ledger.record(("", "zoe", None, "idle"), Bytes(1, 0, 1000, 0, 0))
            here.service.ledger.record(("", "", None, "other"), Bytes(1, 0, 1000, 0, 0))
            for kind, value in (("answer", Bytes(2, 900, 80, 70, 60)), ("payload", Bytes(1, 0, 40, 5000, 30))):
                here.service.ledger.record((run, "anna", 1, kind), value)
            await here.service.ledger.flush()
            asked = await here.http.get(f"/v1/runs/{run}/ledger")
            ledger = Ledger.model_validate_json(asked.content)
            mine = total(ledger.rows)
            bill = await here.twin("/bill?run=night")
            assert bill["wire_bytes"] == bill["today_bytes"] == bill["month_bytes"] == mine.wire == 6180 + 820
            page = (await here.http.get("/bill?run=night", headers={"accept": "text/html"})).text
            assert "Of it unaccounted" in page
            assert "500 B" in page
            assert sum(row["uplink_payload_bytes"] for row in bill["kinds"]) == mine.uplink_payload
            (of_run,) = bill["runs"]
            assert (of_run["run"], of_run["wire_bytes"]) == ("night", 6180)  # what its budget is about
            told = list(csv.DictReader(io.StringIO((await here.http.get("/bill.csv?run=night")).text)))
            assert sum(int(row["downlink_payload_bytes"]) for row in told) == mine.downlink_payload
            (over,) = [one for one in (await here.twin("/activity?about=round 2"))["lines"] if one["kind"] == "round"]
            assert over["said"] == "night: round 2 is over, 2 of 2"
            assert over["wire_bytes"] == 6180
            kinds = [one["said"] for one in (await here.twin("/activity?kind=client"))["lines"]]
            assert sorted(kinds) == ["anna enrolled", "bert enrolled"]

    asyncio.run(work())


def test_a_part_of_the_bill_is_never_more_than_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where bytes are stored while the bill is drawn up."""

    async def work() -> None:
        async with site(tmp_path) as here:
            run = await trained(here)
            glances = Overviews.runs

            async def crossed_meanwhile(overviews: Overviews) -> Overview:
                here.service.ledger.record((run, "anna", 1, "answer"), Bytes(1, 5000, 80, 70, 60))
                await here.service.ledger.flush()
                return await glances(overviews)

            monkeypatch.setattr(Overviews, "runs", crossed_meanwhile)
            bill = await here.twin("/bill")
            (of_run,) = bill["runs"]
            assert bill["today_bytes"] <= bill["month_bytes"] <= bill["wire_bytes"]
            assert 5210 <= of_run["wire_bytes"] <= bill["wire_bytes"]

    asyncio.run(work())


def test_a_runs_log_is_whole_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rounds and deeds a page may hold, all pages together are what one page without a limit is."""

    async def work() -> None:
        async with site(tmp_path) as here:
            await trained(here)
            for _ in range(3):
                await here.send("/runs/night/stop")
            whole = await here.twin("/activity?run=night")
            assert "earlier" not in whole
            for most in (1, 2, 3):
                monkeypatch.setattr(activity, "LINES_OF_RUN", most)
                lines, before = [], ""
                while True:
                    found = await here.twin(f"/activity?run=night{before}")
                    lines += found["lines"]
                    if "earlier" not in found:
                        break
                    before = f"&before={found['earlier']!r}"
                assert lines == whole["lines"]
                assert "Earlier</a>" in await here.page("/activity?run=night")

    asyncio.run(work())


def test_a_comparison_is_the_command_lines(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            run = await trained(here)
            for exchange in range(4):
                here.service.ledger.record(
                    (run, "anna", exchange, "answer"), Bytes(1, 1000 * (exchange + 1), 50, 10, 5)
                )
            await here.service.ledger.flush()
            metrics = RunMetrics.model_validate_json((await here.http.get(f"/v1/runs/{run}/metrics")).content)
            rounds = rounds_of(metrics.exchanges)
            target = usual_target(rounds)
            told = await here.twin("/compare?run=night")
            assert told["target"] == target
            assert told["runs"][0]["bytes_to_target"] == bytes_until(rounds, target) == 1065
            assert told["runs"][0]["saved_share"] == 0.0
            nowhere = (await here.twin("/compare?run=night&target=0.99"))["runs"][0]
            assert "bytes_to_target" not in nowhere

    asyncio.run(work())


def test_a_forecast_goes_on_as_the_last_rounds_did() -> None:
    def made(*costs: int) -> list[Round]:
        return [Round(0), *(Round(number, cost=Bytes(uplink_payload=cost)) for number, cost in enumerate(costs, 1))]

    def run(rounds: int, *, evaluate: bool = False) -> RunSettings:
        return RunSettings(rounds=rounds, evaluate=evaluate)

    assert forecast(made(), run(10), 0) is None
    # The first round carries the model whole to everybody; it does not come again.
    assert forecast(made(900, 100, 100, 100), run(10), 1200) == 1200 + 6 * 100
    assert forecast(made(900), run(2), 900) == 1800
    down = [Round(0), Round(1, cost=Bytes(uplink_payload=30, downlink_payload=70))]
    assert forecast(down, run(3, evaluate=True), 100) == 100 + 2 * 100 + 70
    many = drawn([Round(number, cost=Bytes(seconds=2.0)) for number in range(1201)])
    assert len(many) <= 120
    assert (many[-1]["round"], many[-1]["total_seconds"]) == (1200, 2402.0)
