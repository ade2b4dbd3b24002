"""Rates: the library's windows over counters of our own; who is limited, and who is not."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.coordinator.served import Served
from tests.coordinator.test_endpoints import enrolled, problem_of
from thinwire.coordinator.wire.addresses import address_of
from thinwire.coordinator.wire.throttle import WINDOW_S, Counters, Rates, Throttle
from thinwire.protocol.reasons import ProblemError


def test_a_rate_is_kept_per_client_and_per_address() -> None:
    throttle = Throttle(Rates(per_client=1, per_address=2, failures=1))
    for name in ("one", "two"):
        for _ in range(WINDOW_S):
            throttle.client(name)
            throttle.address("192.0.2.1")
        with pytest.raises(ProblemError) as caught:
            throttle.client(name)
        assert caught.value.reason == "too-many-requests"
        assert caught.value.retry_after_s is not None
        assert 1 <= caught.value.retry_after_s <= WINDOW_S
    with pytest.raises(ProblemError, match="address"):
        throttle.address("192.0.2.1")
    throttle.address("192.0.2.2")


def test_guesses_are_heard_until_enough_have_failed() -> None:
    throttle = Throttle(Rates(per_client=1, per_address=1, failures=3))
    for _ in range(3):
        throttle.guess("192.0.2.1")
        throttle.failed("192.0.2.1")
    with pytest.raises(ProblemError, match="wrong tokens"):
        throttle.guess("192.0.2.1")
    throttle.guess("192.0.2.2")


def test_counters_of_many_addresses_are_dropped_when_their_window_is_over() -> None:
    counters = Counters()
    for number in range(50_000):
        counters.incr(f"{number}", -1)  # a window that has ended already
    assert len(counters) <= 1024
    assert counters.get("1") == 0


@given(st.lists(st.sampled_from("abc"), max_size=50))
def test_counters_count(keys: list[str]) -> None:
    counters = Counters()
    for key in keys:
        counters.incr(key, 60)
    assert {key: counters.get(key) for key in "abc"} == {key: keys.count(key) for key in "abc"}


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a name", "a name"),
    ],
)
def test_who_has_one_address_has_its_network(host: str, address: str) -> None:
    assert address_of({"client": (host, 1)}) == address
    assert address_of({}) == ""


def test_wrong_invites_and_tokens_are_slowed_down_and_leave_nothing(serve: Callable[..., Served]) -> None:
    """A flood of guesses: a bounded number is heard, none leaves a row, and nobody else pays."""
    served = serve(max_failures_per_address=20)
    good, client = served.invite(), enrolled(served)
    statuses: list[int] = []
    with httpx.Client(base_url=served.url) as http:
        for number in range(500):
            body = {"invite": f"guess-{number}", "name": f"bot-{number}"}
            response = http.post("/v1/clients", json=body)
            statuses.append(response.status_code)
            problem_of(response)
        assert statuses == [403] * 20 + [429] * 480
        assert int(response.headers["retry-after"]) <= 60
        guessed = http.get("/v1/clients", headers={"authorization": "Bearer guess"})
        assert problem_of(guessed).reason == "too-many-requests"
        # Whoever has a token goes on; the operator, too.
        assert http.post("/v1/registrations", json={}, headers=client).status_code == 204
        listed = http.get("/v1/clients", headers=served.operator).json()["clients"]
        assert [one["client"] for one in listed] == ["client-00"]
        assert problem_of(http.post("/v1/clients", json={"invite": good})).reason == "too-many-requests"


def test_a_valid_invite_admits_as_many_as_it_counts(serve: Callable[..., Served]) -> None:
    """A flood with a stolen invite: rows are bounded by its uses, and by max-clients."""
    served = serve(max_clients=15, max_failures_per_address=10_000)
    flooded, wide = served.invite(uses=10), served.invite(uses=1_000_000)
    with httpx.Client(base_url=served.url) as http:
        for invite, most in ((flooded, 10), (wide, 5)):
            statuses = [http.post("/v1/clients", json={"invite": invite}).status_code for _ in range(100)]
            assert statuses.count(201) == most
        listed = http.get("/v1/clients", headers=served.operator).json()["clients"]
    assert len(listed) == 15


def test_a_client_that_asks_too_often_is_told_when_to_come_back(serve: Callable[..., Served]) -> None:
    served = serve(max_requests_per_client=1)
    one, two = enrolled(served, "one"), enrolled(served, "two")
    with httpx.Client(base_url=served.url) as http:
        path = f"/v1/plans/{'0' * 64}"
        responses = [http.get(path, headers=one) for _ in range(3 * WINDOW_S)]
        limited = [response for response in responses if response.status_code == 429]
        assert len(limited) >= WINDOW_S
        assert problem_of(limited[0]).reason == "too-many-requests"
        assert 1 <= int(limited[0].headers["retry-after"]) <= WINDOW_S
        assert problem_of(http.get(path, headers=two)).reason == "plan-not-found"


@pytest.mark.parametrize("jump_s", [1e8, -1e8])
def test_a_rate_is_of_the_time_that_passes(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """The wall clock jumps by years, both ways: nobody is locked out for long."""
    throttle = Throttle(Rates(per_client=1, per_address=1, failures=1))
    for _ in range(WINDOW_S):
        throttle.client("client")
    wall = time.time() + jump_s
    monkeypatch.setattr(time, "time", lambda: wall)
    with pytest.raises(ProblemError) as caught:
        throttle.client("client")
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s <= WINDOW_S
