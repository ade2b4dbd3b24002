"""How heavy pages are and how soon a browser paints them, with 1,000 clients: `python -m tests.dashboard.measure`.

The clients are rows: enrolled, heard, with bytes of their own; the run has so many answers in each round.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Page, async_playwright

from tests.dashboard.federation import begin, until, wards
from thinwire.operator.lab import Lab

CLIENTS: Final = 1000
ROUNDS: Final = 30
TIMES: Final = 5
PAGES: Final = ("/", "/runs/night", "/compare?run=night", "/clients", "/clients/ward-1", "/invites", "/problems",
                "/bill", "/activity", "/audit")  # fmt: skip
PAINTED: Final = """() => new Promise(told => new PerformanceObserver(list => {
    const paint = list.getEntries().find(one => one.name === 'first-contentful-paint');
    if (paint) told(paint.startTime);
}).observe({ type: 'paint', buffered: true }))"""
SENT: Final = """() => performance.getEntries().reduce((sum, one) => sum + (one.decodedBodySize || 0), 0)"""


def crowd(database: Path) -> None:
    """Rows of clients that the page lists beside the real ones."""
    now = time.time()
    with sqlite3.connect(database, timeout=30) as rows:
        (run,) = rows.execute("SELECT id FROM runs").fetchone()
        exchanges = [one for (one,) in rows.execute("SELECT exchange FROM exchanges WHERE closed")]
        names = [f"clinic-{number:04}" for number in range(CLIENTS)]
        rows.executemany(
            'INSERT INTO clients (name, "group", role, token_hash, invite_hash, seen, enrolled_at, version) '
            "VALUES (?, 'default', 'client', ?, x'00', 1, ?, 0)",
            [(name, name.encode(), now) for name in names],
        )
        rows.executemany(
            "INSERT INTO presence (client, holds, seen_at, parked, gone, software) VALUES (?, '{}', ?, 1, 0, '0.1.0')",
            [(name, now) for name in names],
        )
        rows.executemany(
            "INSERT INTO ledger (run, client, exchange, kind, requests, uplink_payload_bytes, uplink_framing_bytes, "
            "downlink_payload_bytes, downlink_framing_bytes, resumed_bytes, seconds) "
            "VALUES (?, ?, ?, 'answer', 1, 9000, 400, 9000, 300, 0, 1.0)",
            [(run, name, exchange) for exchange in exchanges for name in names],
        )
        rows.executemany(
            "INSERT INTO tasks (id, run, exchange, slot, offer, client, state) VALUES (?, ?, ?, ?, 1, ?, 'accepted')",
            [
                (f"c{exchange}x{slot}", run, exchange, slot + 100, name)
                for exchange in exchanges
                for slot, name in enumerate(names)
            ],
        )


async def look(page: Page, path: str) -> tuple[float, float, int]:
    """Milliseconds until the answer has come and until something is painted, bytes of all that was loaded."""
    await page.goto(path, wait_until="load")
    painted = await page.evaluate(PAINTED)
    answered = await page.evaluate("() => performance.getEntriesByType('navigation')[0].responseEnd")
    return float(answered), float(painted), int(await page.evaluate(SENT))


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        lab.serve()
        begin(lab, "night", rounds=ROUNDS, max_bytes=90_000_000)
        async with wards(lab), async_playwright() as driver:
            await until(lab, "night", ROUNDS - 2)
            crowd(lab.data_dir / "thinwire.db")
            browser = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            token = (lab.data_dir / "operator.token").read_text().strip()
            print(f"{'page':<22} answered  first paint  all bytes   (median of {TIMES}, nothing kept by the browser)")
            for path in PAGES:
                found: list[Any] = []
                for _ in range(TIMES):
                    context = await browser.new_context(base_url=lab.url)
                    page = await context.new_page()
                    await page.goto("/login")
                    await page.fill("#token", token)
                    await page.click("main button")
                    await page.goto("about:blank")
                    found.append(await look(page, path))
                    await context.close()
                answered, painted, size = (statistics.median(column) for column in zip(*found, strict=True))
                print(f"{path:<22} {answered:5.0f} ms     {painted:5.0f} ms   {size / 1000:6.1f} kB")
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
