"""What a run will have cost is known after three rounds, within a tenth, as the transport counts it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.dashboard.federation import begin, until, wards
from thinwire.operator.lab import Lab

ROUNDS = 10


@pytest.mark.long
def test_the_forecast_is_within_a_tenth(tmp_path: Path) -> None:
    async def work() -> None:
        with Lab(tmp_path) as lab:
            lab.serve()

            def told() -> dict[str, Any]:
                found: dict[str, Any] = httpx.get(f"{lab.url}/runs/night.json").json()
                return found

            begin(lab, "night", rounds=ROUNDS, quorum=7, deadline_s=20.0)
            async with wards(lab):
                await until(lab, "night", 3)
                early = await asyncio.to_thread(told)
                await until(lab, "night", ROUNDS + 2)
            # The last requests are charged when their connections have ended.
            async with asyncio.timeout(30):
                while (late := await asyncio.to_thread(told))["run"]["state"] != "finished":
                    await asyncio.sleep(0.1)
            assert "forecast_bytes" not in late
            assert abs(early["forecast_bytes"] / late["spent_bytes"] - 1) <= 0.1

    asyncio.run(work())
