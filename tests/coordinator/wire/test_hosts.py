"""Who asks is known by peer, Host, Origin and what proxies add; never by where the coordinator listens."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.coordinator.served import Served
from tests.coordinator.test_endpoints import enrolled
from thinwire.coordinator.settings import ServeSettings
from thinwire.coordinator.wire.addresses import Proxies
from thinwire.coordinator.wire.hosts import Hosts
from thinwire.protocol.reasons import ProblemError

PUBLIC = "coordinator.example"
READS = ("/v1/runs", "/metrics")


def _scope(peer: str, host: str | None, version: str = "1.1", **headers: str) -> dict[str, object]:
    named = {} if host is None else {"host": host}
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in {**named, **headers}.items()]
    return {"type": "http", "http_version": version, "client": (peer, 1), "headers": pairs}


def _reason(hosts: Hosts, scope: dict[str, object]) -> str | None:
    try:
        hosts.check(scope)
    except ProblemError as error:
        return error.reason
    return None


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "LOCALHOST.", "127.0.0.1:80", "[::1]:8080", "[::1]"])
def test_a_program_at_this_machine_is_local(peer: str, host: str) -> None:
    scope = _scope(peer, host)
    assert Hosts().is_local(scope)
    assert _reason(Hosts(), scope) is None


@pytest.mark.parametrize(
    "scope",
    [
        _scope("192.0.2.1", "localhost"),
        _scope("2001:db8::1", "localhost"),
        _scope("127.0.0.1", "localhost", forwarded="for=192.0.2.1"),
        _scope("127.0.0.1", "localhost", x_forwarded_for="127.0.0.1"),
        _scope("127.0.0.1", "localhost", x_forwarded_proto="https"),
        _scope("127.0.0.1", "localhost", x_forwarded_anything="1"),
        _scope("127.0.0.1", "localhost", x_real_ip="127.0.0.1"),
        _scope("127.0.0.1", "localhost", via="1.1 proxy"),
        _scope("127.0.0.1", "localhost", sec_fetch_site="cross-site"),
        _scope("127.0.0.1", "localhost", sec_fetch_site="same-site"),
        _scope("127.0.0.1", "localhost", version="1.0"),
        _scope("127.0.0.1", None, version="1.0"),
        _scope("127.0.0.1", PUBLIC),
    ],
)
def test_nobody_else_is(scope: dict[str, object]) -> None:
    assert not Hosts().is_local(scope)


@given(st.sampled_from(["127.0.0.1", "::1", "127.0.0.0/8", "*"]), st.sampled_from(["127.0.0.1", "::1"]))
def test_beside_a_proxy_nobody_is(proxy: str, peer: str) -> None:
    """One that is not told to adds no header at all, and asks for the address that it was given: localhost."""
    assert not Hosts(proxies=Proxies([proxy])).is_local(_scope(peer, "localhost"))


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", PUBLIC])
def test_a_name_that_leads_to_the_loopback_is_refused(host: str) -> None:
    """DNS rebinding: the page's own name leads to this machine, so the browser asks here and lets the page read."""
    assert _reason(Hosts(), _scope("127.0.0.1", host)) == "bad-request"
    assert _reason(Hosts(), _scope("192.0.2.1", host)) is None
    allowed = Hosts(frozenset({PUBLIC}))
    assert _reason(allowed, _scope("127.0.0.1", host)) == (None if host == PUBLIC else "bad-request")
    assert _reason(allowed, _scope("192.0.2.1", f"{host}:443")) == (None if host == PUBLIC else "bad-request")


def test_a_request_names_one_host() -> None:
    twice = _scope("127.0.0.1", "localhost")
    assert isinstance(twice["headers"], list)
    twice["headers"].append((b"host", b"localhost"))
    assert _reason(Hosts(), twice) == "bad-request"
    assert _reason(Hosts(), _scope("192.0.2.1", None)) == "bad-request"
    assert _reason(Hosts(), _scope("192.0.2.1", None, version="1.0")) is None


@pytest.mark.parametrize(
    ("host", "origin", "reason"),
    [
        ("localhost:8080", "http://localhost:8080", None),
        ("localhost", "http://localhost", None),
        ("localhost:80", "http://localhost", None),
        (PUBLIC, f"https://{PUBLIC}", None),
        (f"{PUBLIC}:443", f"https://{PUBLIC}", None),
        ("[::1]:8080", "http://[::1]:8080", None),
        ("localhost:8080", "http://localhost:8081", "not-allowed"),
        ("localhost:8080", "https://evil.example", "not-allowed"),
        ("localhost:8080", "null", "not-allowed"),
        ("localhost:8080", "", "not-allowed"),
        ("localhost:8080", "http://localhost:99999", "not-allowed"),
        ("localhost:8080", f"https://{PUBLIC}", None),
    ],
)
def test_a_page_of_another_origin_may_not_ask(host: str, origin: str, reason: str | None) -> None:
    assert _reason(Hosts(frozenset({PUBLIC})), _scope("127.0.0.1", host, origin=origin)) == reason


@given(
    st.text(max_size=40).map(lambda text: text.encode("latin1", "replace").decode("latin1")),
    st.text("htps:/[]0189.@", max_size=20),
)
def test_no_header_is_an_error_of_ours(host: str, origin: str) -> None:
    scope = _scope("127.0.0.1", None)
    scope["headers"] = [(b"host", host.encode("latin1")), (b"origin", origin.encode())]
    assert _reason(Hosts(), scope) in {None, "bad-request", "not-allowed"}
    Hosts().is_local(scope)


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed_hosts": "https://a.example"},
        {"allowed_hosts": "a.example:443"},
        {"allowed_hosts": "[2001:db8::7]:443"},
        {"trusted_proxies": "proxy.example"},
    ],
)
def test_what_would_never_match_is_refused_at_the_start(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ServeSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("allowed", ["2001:db8::7", "[2001:db8::7]", "a.example, [2001:DB8::7]"])
def test_an_address_of_ipv6_is_allowed_as_people_write_it(allowed: str) -> None:
    hosts = Hosts(ServeSettings(allowed_hosts=allowed).hosts)
    for host in ("[2001:db8::7]", "[2001:db8::7]:8443"):
        assert _reason(hosts, _scope("::1", host)) is None
    assert _reason(hosts, _scope("::1", "[2001:db8::8]:8443")) == "bad-request"


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, None),
        ({"host": "evil.example"}, "bad-request"),
        ({"origin": "https://evil.example"}, "not-allowed"),
        ({"x-forwarded-for": "192.0.2.1"}, "token-missing"),
        ({"forwarded": "for=192.0.2.1"}, "token-missing"),
        ({"via": "1.1 proxy"}, "token-missing"),
    ],
)
def test_what_needs_no_token_at_this_machine_needs_one_through_it(
    standing: Served, path: str, headers: dict[str, str], reason: str | None
) -> None:
    response = httpx.get(f"{standing.url}{path}", headers=headers)
    assert (None if response.is_success else response.json()["reason"]) == reason


def test_a_web_page_changes_nothing(standing: Served) -> None:
    """Not even with the operator's token in its hands."""
    headers = {**standing.operator, "origin": "https://evil.example", "content-type": "text/plain"}
    response = httpx.post(f"{standing.url}/v1/invites", json={"uses": 1}, headers=headers)
    assert (response.status_code, response.json()["reason"]) == (403, "not-allowed")


def test_behind_a_proxy_that_adds_nothing_all_reads_need_a_token_and_strangers_lock_nobody_out(
    serve: Callable[..., Served],
) -> None:
    served = serve(trusted_proxies="127.0.0.1,::1", max_failures_per_address=3)
    for path in READS:
        assert httpx.get(f"{served.url}{path}").json()["reason"] == "token-missing"
    for _ in range(10):
        wrong = httpx.post(f"{served.url}/v1/clients", json={"invite": "wrong"})
        assert wrong.json()["reason"] == "invite-invalid"
    assert enrolled(served, "newcomer")
