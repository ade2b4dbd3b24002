"""Which hosts are this machine, and what stands before the others."""

from __future__ import annotations

import pytest

from thinwire.protocol.places import find_proxy, on_this_machine, without_secrets

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("192.0.2.1", False),
        ("10.0.0.1", False), ("localhost.example", False), ("", False),
    ],
)  # fmt: skip
def test_this_machine(host: str, here: bool) -> None:
    assert on_this_machine(host) == here


def test_the_environment_names_the_proxy(environment: pytest.MonkeyPatch) -> None:
    assert find_proxy("http", "coordinator.example") is None
    environment.setenv("http_proxy", PROXY)
    assert find_proxy("http", "coordinator.example") == PROXY
    assert find_proxy("https", "coordinator.example") is None
    environment.setenv("all_proxy", "other.example:1080")
    assert find_proxy("https", "coordinator.example") == "http://other.example:1080"
    assert find_proxy("http", "127.0.0.1") is None
    environment.setenv("no_proxy", "coordinator.example")
    assert find_proxy("http", "coordinator.example") is None


def test_a_message_names_a_url_without_its_secrets() -> None:
    assert without_secrets("http://user:secret@proxy.example:3128/x") == "http://proxy.example:3128/x"
    assert without_secrets(PROXY) == PROXY
