"""Webhooks: how far each has been told is a row, and only the process that tells it writes it."""

from __future__ import annotations

import pytest

from tests.records.conftest import Records
from tests.records.house import NOW, House
from tests.records.test_events import add
from thinwire.coordinator.records.leases import LeaseLostError
from thinwire.coordinator.records.webhooks import WebhookRow, Webhooks

KEY = bytes(range(32))


def test_one_hears_what_happens_after_it_was_added(house: House) -> None:
    hooks = Webhooks(house.records.database)
    add(house, "x", "run", NOW)
    last = house.do(house.events.last_id())
    first = house.do(hooks.add("hook01", "https://a.example/", KEY, ["run"], None, most=2, now=NOW))
    second = house.do(hooks.add("hook02", "https://b.example/", KEY, ["answer", "run"], "night", most=2, now=NOW + 1))
    assert first == WebhookRow("hook01", "https://a.example/", KEY, ["run"], None, last)
    assert house.do(hooks.all()) == [first, second]
    assert house.do(hooks.get("hook02")) == second
    assert house.records.reason(hooks.add("hook03", "", KEY, [], None, most=2, now=NOW)) == "too-many-requests"


def test_what_became_of_messages_is_noted_by_whoever_tells_it(house: House) -> None:
    hooks = Webhooks(house.records.database)
    house.do(hooks.add("hook01", "https://a.example/", KEY, ["run"], None, most=2, now=NOW))
    lease = house.do(house.leases.acquire("hook01", "one", None))
    assert lease is not None
    house.do(hooks.failed(lease, 7, 3, "it answered 503", NOW + 4))
    failed = house.do(hooks.get("hook01"))
    assert (failed.last, failed.failures, failed.said, failed.next_at) == (7, 3, "it answered 503", NOW + 4)
    house.do(hooks.took(lease, 8))
    took = house.do(hooks.get("hook01"))
    assert (took.last, took.failures, took.said, took.next_at) == (8, 0, None, None)
    house.do(house.leases.acquire("hook01", "two", None))
    with pytest.raises(LeaseLostError):
        house.do(hooks.took(lease, 9))
    assert house.do(hooks.get("hook01")) == took


def test_a_webhook_that_is_removed_is_told_no_more(records: Records) -> None:
    house, hooks = House(records), Webhooks(records.database)
    house.do(hooks.add("hook01", "https://a.example/", KEY, ["run"], None, most=2, now=NOW))
    lease = house.do(house.leases.acquire("hook01", "one", None))
    assert lease is not None
    house.do(hooks.remove("hook01"))
    assert house.do(hooks.all()) == []
    with pytest.raises(LeaseLostError):
        house.do(hooks.took(lease, 1))
    for call in (hooks.remove("hook01"), hooks.get("hook01")):
        assert records.reason(call) == "webhook-not-found"
