"""Writes the pictures of the pages in `docs/images/`: `python -m tests.dashboard.write_images`.

The clients in them follow a script: what they say of accuracy and seconds is made up, their bytes are real.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx
from PIL import Image
from playwright.async_api import Browser, async_playwright

from tests.dashboard.federation import begin, until, wards
from thinwire.operator.lab import Lab

IMAGES: Final = Path(__file__).resolve().parents[2] / "docs" / "images"
DESK: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 390, "height": 844}
COLOURS: Final = 96
PICTURES: Final[dict[str, tuple[str, dict[str, Any], int]]] = {
    "problems": ("/problems", {"viewport": DESK, "color_scheme": "light"}, 620),
    "clients": ("/clients", {"viewport": DESK, "color_scheme": "light"}, 560),
    "client": ("/clients/ward-3", {"viewport": DESK, "color_scheme": "light"}, 760),
    "run": ("/runs/night", {"viewport": DESK, "color_scheme": "light"}, 1500),
    "run-dark": ("/runs/night", {"viewport": DESK, "color_scheme": "dark"}, 900),
    "run-phone": ("/runs/night", {"viewport": PHONE, "color_scheme": "light"}, 1200),
    "compare": ("/compare?run=night&run=pilot", {"viewport": DESK, "color_scheme": "light"}, 820),
    "runs": ("/", {"viewport": DESK, "color_scheme": "light"}, 420),
    "invites": ("/invites", {"viewport": DESK, "color_scheme": "light"}, 560),
}
"""Name -> page, how it is looked at, height in pixels."""


async def photograph(browser: Browser, lab: Lab) -> None:
    for name, says in (("clinic-7", "the box by the window, second floor"), ("ward-12", "")):
        asked = {"invite": hashlib.sha256(name.encode()).hexdigest(), "name": name, "says": says}
        httpx.post(f"{lab.url}/v1/pending", json=asked).raise_for_status()
    token = (lab.data_dir / "operator.token").read_text().strip()
    for name, (path, options, height) in PICTURES.items():
        context = await browser.new_context(base_url=lab.url, **options)
        page = await context.new_page()
        await page.goto("/login")
        await page.fill("#token", token)
        await page.click("main button")
        await page.goto(path)
        # A rate is of two looks, and pages look each five seconds.
        await page.wait_for_timeout(6500 if path.startswith("/clients") else 1200)
        width = options["viewport"]["width"]
        shot = await page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})
        with Image.open(io.BytesIO(shot)) as picture:
            few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            few.save(IMAGES / f"dashboard-{name}.png", optimize=True)
        await context.close()


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder), ["--present-for", "8"]) as lab:
        lab.serve()
        first, second = {"ward_3": {"pace_s": 0.5}}, {
            "ward_2": {"declines": frozenset({3, 7, 9, 10, 11, 12})},
            "ward_6": {"silent_after": 5},
            "ward_7": {"pace_s": 1.4},
        }  # fmt: skip
        begin(lab, "pilot", rounds=8, cohort=5)
        async with wards(lab, **first):
            await until(lab, "pilot", 9)
        for name in [f"ward-{number}" for number in range(1, 8)]:
            lab.operator.revoke(name)
        begin(lab, "weekly", group="clinics", cohort=12)
        begin(lab, "night", rounds=40, max_bytes=15_000_000)
        async with wards(lab, **second), async_playwright() as driver:
            await until(lab, "night", 11)
            browser = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            await photograph(browser, lab)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
