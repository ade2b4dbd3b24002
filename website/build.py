"""The documentation as a site that needs no internet: `python -m website.build`, which `make docs` calls.

The pages stand all over the repository and link to each other and to files. They are copied with what they link to, as
they are but for three things: diagrams become pictures (`website.diagrams`), folders become pages that list them, and a
list behind a line of text gets the empty line between them that this kind of Markdown wants.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from website.diagrams import BLOCK, picture
from website.pages import ROOT, pages

BUILD: Final = ROOT / "build"
STAGED, SITE = BUILD / "pages", BUILD / "site"
_SHIM: Final = ROOT / "website" / "iframe-worker.js"
_SHIM_ADDRESS: Final = "https://unpkg.com/iframe-worker/shim"
_FENCE: Final = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"(\]\()([^)\s#]+)((?:#[^)]*)?\))")
_TIGHT_LIST: Final = re.compile(r"^(?![-*|>#]|\d+\. |\s)(.+)\n(?=[-*] |\d+\. )", re.MULTILINE)
_ADDRESS: Final = re.compile(r"^(\w+:|#)")
_LOADED: Final = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//|<link[^>]*\shref="(?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//|@import ["'](?:https?:)?//"""
)


def stage() -> None:
    """Puts pages, and what they link to, into an empty folder. Raises: `FileNotFoundError` of a link to nothing."""
    shutil.rmtree(STAGED, ignore_errors=True)
    for page in pages():
        target = STAGED / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(staged(page))


def staged(page: Path) -> str:
    """The text of a page for the site; files that it links to are copied."""
    pieces = _FENCE.split(page.read_text())
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            linked = _LINK.sub(lambda found: f"{found[1]}{_linked(page, found[2])}{found[3]}", piece)
            pieces[index] = _TIGHT_LIST.sub(r"\1\n\n", linked)
        elif (block := BLOCK.fullmatch(piece)) is not None:
            pieces[index] = f"![diagram]({_linked(page, os.path.relpath(picture(block[1]), page.parent))})"
    return "".join(pieces)


def _linked(page: Path, link: str) -> str:
    """Where the link leads in the site."""
    if _ADDRESS.match(link):
        return link
    path = (page.parent / link).resolve()
    if path.is_dir():
        listed = path / "README.md"
        if not listed.exists():
            _list(path)
        return os.path.relpath(listed, page.parent)
    if not path.exists():
        raise FileNotFoundError(f"{page.relative_to(ROOT)} links to {link}, which is not there")
    if path.suffix != ".md":
        _copy(path)
    return link


def _list(folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    lines = [f"- [{path.relative_to(folder)}]({path.relative_to(folder)})" for path in files]
    for path in files:
        _copy(path)
    target = STAGED / folder.relative_to(ROOT) / "README.md"
    target.write_text(f"# {folder.relative_to(ROOT)}\n\n" + "\n".join(lines) + "\n")


def _copy(path: Path) -> None:
    target = STAGED / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def bring_home(site: Path) -> None:
    """The one script that the theme loads from elsewhere, without which the search needs a server, is laid here."""
    shutil.copyfile(_SHIM, site / "assets" / _SHIM.name)
    for path in site.rglob("*.html"):
        here = os.path.relpath(site / "assets" / _SHIM.name, path.parent)
        path.write_text(path.read_text().replace(_SHIM_ADDRESS, here))


def loaded_from_elsewhere(site: Path) -> list[str]:
    """What a browser would fetch from the internet to show the pages: scripts, styles, pictures, fonts."""
    return [
        f"{path.relative_to(site)}: {found[0]}"
        for path in sorted(site.rglob("*"))
        if path.suffix in (".html", ".css")
        for found in _LOADED.finditer(path.read_text())
    ]


def main() -> None:
    """Builds the site and looks whether it is whole."""
    stage()
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", "website/mkdocs.yml"]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    code = subprocess.run(words, cwd=ROOT, env=variables).returncode
    if code:
        raise SystemExit(code)
    bring_home(SITE)
    if found := loaded_from_elsewhere(SITE):
        raise SystemExit("the pages would load from the internet:\n" + "\n".join(found))
    print(f"the documentation: {(SITE / 'index.html').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
