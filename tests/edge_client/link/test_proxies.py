"""The proxy that the environment names: its place, its credentials, and what its refusals mean."""

from __future__ import annotations

import httpcore
import pytest

from tests.connect_proxy import ConnectProxy
from tests.edge_client.conftest import MakeTransfer
from thinwire.edge_client.link.proxies import BadProxyError, Proxy, refusal
from thinwire.edge_client.link.replies import BadPeerError, StrangerError
from thinwire.edge_client.link.transfer import Patience, UnreachableError
from thinwire.protocol.messages import Registration, VerdictMessage
from thinwire.protocol.reasons import ProblemError


@pytest.mark.parametrize(
    ("text", "url", "credentials"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128", None),
        ("http://proxy.example", "http://proxy.example:80", None),
        ("https://me:p%40ss%3A@proxy.example", "https://proxy.example:443", ("me", "p@ss:")),
        ("http://me@[2001:db8::1]:8", "http://[2001:db8::1]:8", ("me", "")),
    ],
)
def test_a_proxy_is_read_as_urls_are(text: str, url: str, credentials: tuple[str, str] | None) -> None:
    found = Proxy.of(text)
    assert (found.url, found.credentials) == (url, credentials)
    assert credentials is None or credentials[1] == "" or credentials[1] not in repr(found)


@pytest.mark.parametrize("text", ["socks5://me:secret@proxy.example", "http://me:secret@", "http://me:secret@h:port"])
def test_what_is_no_proxy_is_said_so_without_its_password(text: str) -> None:
    with pytest.raises(BadProxyError, match="proxy") as caught:
        Proxy.of(text)
    assert "secret" not in str(caught.value)


def test_what_is_no_proxy_ends_a_client_in_words(make_transfer: MakeTransfer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "gopher://127.0.0.1")
    with pytest.raises(BadPeerError, match="a proxy is http"):
        make_transfer("https://coordinator.example")


def test_a_proxy_that_wants_another_password_is_not_asked_for_ever(
    make_transfer: MakeTransfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(("127.0.0.1", 9), "me", "right") as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:wrong@127.0.0.1:{proxy.port}")
        transfer = make_transfer("https://coordinator.example", Patience(give_up_after_s=5))
        with pytest.raises(StrangerError, match=r"407.*another name and password") as caught:
            transfer.call("POST", "/v1/x", VerdictMessage, Registration())
        assert "wrong" not in str(caught.value)
        assert proxy.refused == 1
        # Who has reached its coordinator before waits: a password that was changed is given a new file some day.
        transfer.use_token("t" * 22)
        with pytest.raises(UnreachableError, match="407"):
            transfer.call("POST", "/v1/x", VerdictMessage, Registration())


def test_what_passes_is_told_from_what_a_person_has_to_mend() -> None:
    assert isinstance(refusal(httpcore.ProxyError("407 Who are you")), StrangerError)
    assert isinstance(refusal(httpcore.ProxyError("403 No")), StrangerError)
    passing = refusal(httpcore.ProxyError("502 Bad Gateway"))
    assert isinstance(passing, ProblemError)
    assert passing.retry
