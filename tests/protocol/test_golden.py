"""The golden messages are read as they were on the day that they were written."""

from __future__ import annotations

import json

import pytest

from tests.protocol.golden import VECTORS, samples
from tests.protocol.messages_strategies import KINDS
from thinwire.protocol.encoding import JSON, MSGPACK, decode_message, encode_message
from thinwire.protocol.fields import Message
from thinwire.protocol.messages import RunRequest

WRITTEN = json.loads(VECTORS.read_text())


def test_every_kind_has_a_golden_message() -> None:
    assert set(WRITTEN) == {kind.__name__ for kind in KINDS}, "run: python -m tests.protocol.golden"


@pytest.mark.parametrize("message", samples(), ids=lambda message: type(message).__name__)
def test_the_golden_bytes_are_this_message_and_this_message_is_the_golden_bytes(message: Message) -> None:
    bodies = WRITTEN[type(message).__name__]
    for media_type, body in ((MSGPACK, bytes.fromhex(bodies["msgpack"])), (JSON, bodies["json"].encode())):
        assert decode_message(type(message), body, media_type) == message
        if not isinstance(message, RunRequest):  # run settings may gain keys; those that are there keep their meaning
            assert encode_message(message, media_type) == body
