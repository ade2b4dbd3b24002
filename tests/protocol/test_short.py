"""Laws of the short form: it says the same in fewer bytes, and no body of a stranger's does harm."""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.golden import samples
from tests.protocol.messages_strategies import random_messages
from thinwire.protocol.encoding import MSGPACK, encode_message
from thinwire.protocol.fields import Message
from thinwire.protocol.messages import AnswerMessage, PartMessage, Registration, TaskMessage, VerdictMessage
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.short import METRICS, decode_short, encode_short

WRITTEN = json.loads((Path(__file__).parent / "vectors" / "short.json").read_text())
SHORT: list[type[Message]] = [Registration, TaskMessage, AnswerMessage, VerdictMessage]
each = pytest.mark.parametrize("kind", SHORT, ids=lambda kind: kind.__name__)


@each
@given(st.data())
def test_a_message_comes_back_and_is_never_longer(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(random_messages(kind, MSGPACK))
    body = encode_short(message)
    assert decode_short(kind, body) == message
    assert len(body) <= len(encode_message(message))
    assert encode_short(decode_short(kind, body)) == body


@given(st.data())
def test_what_the_next_task_shares_with_the_one_before_does_not_travel(data: st.DataObject) -> None:
    task = data.draw(random_messages(TaskMessage, MSGPACK))
    verdict = VerdictMessage(verdict="accepted", next=task)
    known = {"run": task.run, "plan": task.plan}
    assert len(encode_short(verdict, known)) <= len(encode_short(verdict)) - 35
    assert decode_short(VerdictMessage, encode_short(verdict, known), known) == verdict
    other = {"run": task.run + "x", "plan": bytes(32)}
    assert decode_short(VerdictMessage, encode_short(verdict, other), other) == verdict


@each
@given(st.data())
def test_hostile_bodies_are_refused_in_words(kind: type[Message], data: st.DataObject) -> None:
    value = data.draw(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-4, 600)
            | st.floats()
            | st.text(max_size=4)
            | st.binary(max_size=9),
            lambda inner: st.lists(inner, max_size=9),
        )
    )
    reasons = {"bad-message", "bad-request", "wire-version"}
    try:
        decode_short(kind, msgpack.packb(value))
    except ProblemError as error:
        reasons.remove(error.reason)


def test_the_places_are_those_that_were_written_once() -> None:
    """A field or a metric that moved would be read as another one."""
    kinds = {type(message).__name__: message for message in samples()}
    part = PartMessage(form="delta", inline=b"arrays")
    task = kinds["TaskMessage"].model_copy(update={"parts": [part, PartMessage(form="held")]})
    metrics = {name: 0.5 + place for place, name in enumerate(METRICS)} | {"dice": 3.0, "examples": 45.0}
    written = {
        "Registration": kinds["Registration"],
        "TaskMessage": task,
        "AnswerMessage": AnswerMessage(examples=180, metrics=metrics, payload=b"update", link=(70_000, 900)),
        "VerdictMessage": VerdictMessage(verdict="late", next=task),
    }
    for kind in SHORT:
        message = written[kind.__name__]
        assert encode_short(message).hex() == WRITTEN[kind.__name__]
        assert decode_short(kind, bytes.fromhex(WRITTEN[kind.__name__])) == message
