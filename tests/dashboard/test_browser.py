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
from urllib.parse import urlsplit

import httpx
import pytest

from tests.dashboard.federation import begin, until, wards
from thinwire.operator.lab import Lab

playwright = pytest.importorskip("playwright.async_api", reason="playwright, which drives a browser, is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = "axe-core@4.14.1"
PAGES = ("/", "/runs/night", "/runs/night/rounds", "/compare?run=night", "/clients", "/clients/ward-1", "/invites",
         "/problems", "/bill", "/activity", "/activity?run=night", "/audit")  # fmt: skip
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


async def logged_in(started: Any, lab: Lab, said: list[str], url: str | None = None, **options: Any) -> Any:
    """A page of a new browser, as the operator; what it says on its console goes to `said`. `url`: where it finds the
    coordinator, if not where that is.
    """
    context = await started.new_context(base_url=url or lab.url, **options)
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
                await page.wait_for_function(
                    "() => document.getElementById('who').textContent.includes('out of memory')"
                )
                await page.wait_for_selector("#curve canvas")
                await page.wait_for_selector("#bars canvas")
                assert await page.evaluate("window.mine")

                await page.click("text=Pause")
                await page.wait_for_selector(".pill.paused", timeout=20_000)
                # What it goes on with, from the form; the command line that does the same stands beside it.
                assert "thinwire run extend night --quorum 2" in await page.text_content("#how pre")
                await page.click("#change summary")
                for name, value in (("rounds", 500), ("quorum", 2), ("deadline_s", 6), ("max_bytes", 10**9)):
                    await page.fill(f"[name={name}]", str(value))
                await page.click("#change button")
                await page.wait_for_load_state()
                settings = lab.view("night").settings
                assert [settings[key] for key in ("rounds", "quorum", "deadline-s", "max-bytes")] == [500, 2, 6, 10**9]
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

                asked = {"invite": "ab" * 32, "name": "clinic", "says": "by the window"}
                code = httpx.post(f"{lab.url}/v1/pending", json=asked).json()["code"]
                await page.wait_for_selector(f"text={code}", timeout=20_000)  # by itself
                await page.click(f"button[aria-label='Accept {code}']")
                await page.wait_for_function("code => !document.body.textContent.includes(code)", arg=code)
                assert httpx.post(f"{lab.url}/v1/pending", json=asked).json() == {"state": "accepted"}

                await page.goto("/clients/ward-7")
                await page.fill("[name=label]", "window")
                await page.click("text=Rename")
                await page.wait_for_function("() => document.querySelector('h1').textContent === 'window'")
                await page.goto("/clients?about=window")
                await page.click("button[aria-label='Revoke window']")
                await page.goto("/clients?about=ward-7&revoked=true")
                assert await page.inner_text("tbody .pill") == "revoked"

                await page.goto("/runs/night")
                await page.click("text=Stop")
                await page.wait_for_selector(".pill.stopped", timeout=20_000)
                assert "thinwire run delete night" in await page.text_content("body")
                await page.click("button.danger:text('Delete')")
                await page.wait_for_url(f"{lab.url}/")
                assert await page.locator("text=night").count() == 0
                await page.goto("/audit")
                told = await page.inner_text("tbody")
                for deed in (
                    "deleted night",
                    "stopped night",
                    "revoked client ward-7",
                    "renamed client ward-7: window",
                    "resumed night",
                    "paused night",
                ):
                    assert deed in told
                await page.click("text=Log out")
                await page.wait_for_selector("text=Log in")
        assert said == []

    asyncio.run(work())


class Cable:
    """What lies between a browser and a coordinator, and can be cut: connections die, and no new one is made."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._is_whole = True
        self._ends: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Cable:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self.cut()
        self._server.close()

    def cut(self) -> None:
        self._is_whole = False
        for end in self._ends:
            end.transport.abort()

    def mend(self) -> None:
        self._is_whole = True

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._is_whole:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._ends |= {writer, back}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while block := await source.read(1 << 16):
                    sink.write(block)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))
        self._ends -= {writer, back}


HEARS = """
window.seen = [];
window.EventSource = class extends EventSource {
  constructor(...given) {
    super(...given);
    for (const kind of ["run", "answer", "exchange"])
      this.addEventListener(kind, event => window.seen.push(Number(event.lastEventId)));
  }
};
"""


def test_a_cut_loses_the_browser_nothing(tmp_path: Path) -> None:
    """What happens meanwhile is told from the stored events when the browser is back, each once, in order."""

    async def work() -> None:
        said: list[str] = []
        with Lab(tmp_path) as lab:
            lab.serve()
            begin(lab, "night", rounds=400)
            async with wards(lab), Cable(lab.url) as cable, browser() as started:
                page = await logged_in(started, lab, said, url=cable.url)
                await page.add_init_script(HEARS)
                await page.goto("/runs/night")
                await page.wait_for_selector("#live.on")
                await page.wait_for_function("() => window.seen.length > 5")
                cable.cut()
                await page.wait_for_selector("#live.off")
                heard = await page.evaluate("window.seen.at(-1)")
                rounds = lab.view("night").exchange + 4
                await until(lab, "night", rounds)
                cable.mend()
                await page.wait_for_selector("#live.on", timeout=30_000)
                await page.wait_for_function("last => window.seen.at(-1) > last + 20", arg=heard, timeout=30_000)
                seen = await page.evaluate("window.seen")
                assert seen == list(range(seen[0], seen[0] + len(seen)))
                text = f"?exchange={rounds - 1}#timeline"
                await page.wait_for_function("text => document.body.innerHTML.includes(text)", arg=text)

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
