"""The diagrams of the pages as pictures, so that the site needs no script for them and no internet.

`python -m website.diagrams MERMAID`, where MERMAID is the file `dist/mermaid.min.js` of the package mermaid, draws what
has no picture yet in Debian's Chromium, and deletes pictures that no page has any more.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Final

from website.pages import ROOT, pages

PICTURES: Final = ROOT / "website" / "diagrams"
BLOCK: Final = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CHROMIUM: Final = "/usr/bin/chromium"
# Labels as text of the picture: HTML inside one is not drawn where the picture is an image.
_DRAW: Final = """async source => {
    mermaid.initialize({startOnLoad: false, theme: "neutral", htmlLabels: false, flowchart: {htmlLabels: false},
                        fontFamily: "sans-serif", deterministicIds: true});
    return (await mermaid.render("diagram", source)).svg;
}"""


def picture(source: str) -> Path:
    """Of this source."""
    return PICTURES / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.svg"


def sources() -> list[str]:
    """Of all pages."""
    return [source for page in pages() for source in BLOCK.findall(page.read_text())]


def main(mermaid: Path) -> None:
    """Draws what is missing."""
    from playwright.sync_api import sync_playwright

    wanted = {picture(source): source for source in sources()}
    for path in set(PICTURES.glob("*.svg")) - set(wanted):
        path.unlink()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content("<html><body></body></html>")
        page.add_script_tag(path=str(mermaid))
        for path, source in wanted.items():
            if not path.exists():
                drawn = page.evaluate(_DRAW, source.replace("<b>", "").replace("</b>", ""))
                path.write_text(drawn.rstrip() + "\n")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
