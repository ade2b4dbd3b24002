"""The documentation as a site: whole, drawn, and without the internet."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from website.build import SITE, loaded_from_elsewhere, staged
from website.diagrams import PICTURES, picture, sources
from website.pages import ROOT, pages


def test_every_page_has_its_place() -> None:
    def listed(part: object) -> list[str]:
        if isinstance(part, dict):
            return [name for inner in part.values() for name in listed(inner)]
        return [name for inner in part for name in listed(inner)] if isinstance(part, list) else [str(part)]

    nav = listed(yaml.safe_load((ROOT / "website" / "mkdocs.yml").read_text())["nav"])
    assert len(nav) == len(set(nav))
    assert set(nav) == {str(page.relative_to(ROOT)) for page in pages()}


def test_every_diagram_is_drawn_as_it_is_written() -> None:
    """After a change: `python -m website.diagrams MERMAID`."""
    wanted = {picture(source) for source in sources()}
    assert wanted
    assert set(PICTURES.glob("*.svg")) == wanted
    for path in wanted:
        text = path.read_text()
        assert text.startswith("<svg")
        assert "foreignObject" not in text, "its labels would not be shown in an image"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_of_the_site_has_no_diagram_that_a_script_would_draw(page: Path) -> None:
    assert "```mermaid" not in staged(page)


def test_what_would_be_fetched_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<a href="https://fine.example">x</a><script src="https://bad.example/a.js"></script>'
        '<img src="//bad.example/b">'
        '<link rel="stylesheet" href="https://bad.example/c"><img src="d.png">'
    )
    (tmp_path / "style.css").write_text(
        "@import 'https://bad.example/e'; .x { background: url(https://bad.example/f) }"
    )
    assert len(loaded_from_elsewhere(tmp_path)) == 5


@pytest.mark.long
def test_the_site_is_built() -> None:
    if importlib.util.find_spec("material") is None:
        pytest.skip("the site's builder is not installed: pip install -e '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "website.build"], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert loaded_from_elsewhere(SITE) == []
    assert "search_index" in "".join(path.name for path in SITE.rglob("*.js"))
