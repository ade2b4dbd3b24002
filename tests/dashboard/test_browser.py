"""The pages in a browser: watched live, every action done, nothing said on the console, names for everything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.federation import begin, wards
from thinwire.operator.lab import Lab

playwright = pytest.importorskip("playwright.async_api", reason="playwright, which drives a browser, is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = "axe-core@4.14.1"
PAGES = ("/", "/runs/night", "/runs/night/rounds", "/compare?run=night", "/clients", "/invites", "/problems", "/bill",
         "/activity", "/audit")  # fmt: skip
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not on this machine"),
]


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Any]:
    async with playwright.async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield started
        finally:
            await started.close()


async def logged_in(started: Any, lab: Lab, said: list[str], **options: Any) -> Any:
    """A page of a new browser, as the operator; what it says on its console goes to `said`."""
    context = await started.new_context(base_url=lab.url, **options)
    page = await context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.goto("/login?next=/")
    await page.fill("#token", (lab.data_dir / "operator.token").read_text().strip())
    await page.click("main button")
    await page.wait_for_url("**/")
    return page


def test_a_run_is_watched_and_steered(tmp_path: Path) -> None:
    async def work() -> None:
        said: list[str] = []
        with Lab(tmp_path) as lab:
            lab.serve()
            begin(lab, "night", rounds=400, deadline_s=5.0)
            async with wards(lab, ward_2={"declines": frozenset(range(2, 400))}), browser() as started:
                page = await logged_in(started, lab, said)
                page.on("dialog", lambda dialog: dialog.accept())
                await page.click("a.name")
                await page.wait_for_selector("#live.on")
                # Rounds come by themselves: the page that was loaded stays.
                await page.evaluate("window.mine = true")
                await page.wait_for_function(
                    "n => document.querySelectorAll('#who tbody tr').length >= n", arg=3, timeout=30_000
                )
                await page.wait_for_function("document.getElementById('who').textContent.includes('out of memory')")
                await page.wait_for_selector("#curve canvas")
                await page.wait_for_selector("#bars canvas")
                assert await page.evaluate("window.mine")

                await page.click("text=Pause")
                await page.wait_for_selector(".pill.paused", timeout=20_000)
                await page.click("text=Resume")
                await page.wait_for_selector(".pill.running")

                await page.goto("/invites")
                await page.fill("[name=group]", "ward")
                await page.click("text=Make an invite")
                code = await page.inner_text("#code")
                assert len(code) > 20
                assert await page.locator("svg.qr").count() == 1
                await page.click("button[aria-label^=Void]")
                await page.wait_for_url("**/invites")

                await page.goto("/clients?about=ward-7")
                await page.click("button[aria-label='Revoke ward-7']")
                await page.goto("/clients?about=ward-7&revoked=true")
                assert await page.inner_text("tbody .pill") == "revoked"

                await page.goto("/runs/night")
                await page.click("text=Stop")
                await page.wait_for_selector(".pill.stopped", timeout=20_000)
                await page.goto("/audit")
                told = await page.inner_text("tbody")
                for deed in ("stopped night", "revoked client ward-7", "resumed night", "paused night"):
                    assert deed in told
                await page.click("text=Log out")
                await page.wait_for_selector("text=Log in")
        assert said == []

    asyncio.run(work())


def axe(folder: Path) -> str:
    """The source of axe-core, from npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which brings axe-core, is not on this machine")
    command = [npm, "pack", AXE, "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
    if done.returncode:
        pytest.skip(f"axe-core cannot be had: {done.stderr[-200:]}")
    (archive,) = folder.glob("axe-core-*.tgz")
    with tarfile.open(archive) as opened:
        member = opened.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def test_everything_has_a_name_and_can_be_told_apart(tmp_path: Path) -> None:
    source = axe(tmp_path)

    async def work() -> None:
        said: list[str] = []
        with Lab(tmp_path) as lab:
            lab.serve()
            begin(lab, "night", rounds=3)
            async with wards(lab), browser() as started:
                for options in ({}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}):
                    page = await logged_in(started, lab, said, **options)
                    for path in PAGES:
                        await page.goto(path)
                        await page.evaluate(source)
                        found = await page.evaluate("axe.run().then(found => found.violations)")
                        told = {one["id"]: [node["html"][:200] for node in one["nodes"][:3]] for one in found}
                        assert told == {}, f"{path} {options}: {json.dumps(told, indent=1)}"
                        width = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                        assert width <= 0, f"{path} is wider than a phone"
                    await page.goto("/")
                    await page.keyboard.press("Tab")
                    assert await page.evaluate("document.activeElement.className") == "skip"
        assert said == []

    asyncio.run(work())
