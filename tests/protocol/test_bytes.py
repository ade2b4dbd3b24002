"""Byte counts add up, whatever is added to what."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from thinwire.protocol.bytes import Bytes

counts = st.integers(0, 2**60)
values = st.builds(Bytes, counts, counts, counts, counts, counts, counts, st.integers(0, 2**20).map(float))


@given(values, values, values)
def test_every_field_adds_up_in_any_order(one: Bytes, two: Bytes, three: Bytes) -> None:
    total = Bytes.sum([one, two, three])
    assert total == three + (one + two)
    for field in fields(Bytes):
        assert getattr(total, field.name) == sum(getattr(some, field.name) for some in (one, two, three))


@given(values)
def test_every_wire_byte_is_payload_or_framing_of_one_direction(some: Bytes) -> None:
    assert some + Bytes() == some
    assert some.wire == some.uplink + some.downlink
    assert some.wire - some.payload == some.uplink_framing + some.downlink_framing
