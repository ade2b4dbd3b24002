"""The page of the document runs nothing, loads nothing from elsewhere, and leaves nothing out."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.coordinator.served import Served
from thinwire.coordinator.wire.reference import reference


@pytest.fixture(scope="module")
def page(standing: Served) -> httpx.Response:
    response = httpx.get(f"{standing.url}/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    return response


def test_it_names_no_other_origin(page: httpx.Response) -> None:
    assert not re.search(r"//|<script|<link|<img|<iframe|@import|url\(|\bon\w+=|javascript:", page.text)
    assert set(re.findall(r"""(?:src|href|action)\s*=\s*["']([^"']*)""", page.text)) == {"openapi.json"}


def test_its_policy_lets_nothing_run_and_nothing_load(page: httpx.Response) -> None:
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert set(policy) - {"default-src", "style-src"} == {"base-uri", "form-action", "frame-ancestors"}
    assert policy["style-src"] == "'unsafe-inline'"


def test_there_is_no_other_page_that_loads_scripts(standing: Served) -> None:
    assert httpx.get(f"{standing.url}/redoc").status_code == 404
    assert httpx.get(f"{standing.url}/docs/oauth2-redirect").status_code == 404


def test_every_route_and_message_is_there(standing: Served, page: httpx.Response) -> None:
    document = httpx.get(f"{standing.url}/openapi.json").json()
    shown = re.findall(r"<summary><b>(\w+)</b> <code>([^<]+)</code>", page.text)
    assert sorted(shown) == sorted((method, path) for path, found in document["paths"].items() for method in found)
    assert set(re.findall(r'<details id="(\w+)">', page.text)) == set(document["components"]["schemas"])


def test_what_it_shows_is_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    schema = {"description": evil, "properties": {evil: {"enum": [evil]}}}
    operation = {
        "summary": evil, "tags": [evil], "parameters": [{"name": evil, "in": evil, "description": evil}],
        "responses": {"200": {"description": evil, "content": {evil: {"schema": {"type": evil}}}}},
    }  # fmt: skip
    text = reference(
        {
            "info": {"title": evil, "version": evil, "description": evil},
            "paths": {evil: {"get": operation}},
            "components": {"schemas": {evil: schema}},
        }
    ).decode()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 10
