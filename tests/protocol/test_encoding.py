"""Messages come back as they were, in both encodings, and nothing else gets in."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.messages_strategies import KINDS, random_messages
from thinwire.codecs import ArraySpec, Open, Spec
from thinwire.protocol import messages
from thinwire.protocol.encoding import JSON, MAX_DEPTH, MSGPACK, decode_message, encode_message, spec_digest
from thinwire.protocol.fields import Message
from thinwire.protocol.messages import (
    MAX_INLINE_BYTES,
    MAX_MESSAGE_BYTES,
    AnswerMessage,
    PartMessage,
    Plan,
    Registration,
    RunCommand,
    TaskMessage,
    VerdictMessage,
)
from thinwire.protocol.reasons import REASONS, ProblemError

BOTH = pytest.mark.parametrize("media_type", [MSGPACK, JSON])


def _write(plain: object, media_type: str) -> bytes:
    return json.dumps(plain).encode() if media_type == JSON else bytes(msgpack.packb(plain))


def _reason(kind: type[Message], body: bytes, media_type: str = MSGPACK) -> str:
    with pytest.raises(ProblemError) as caught:
        decode_message(kind, body, media_type)
    return caught.value.reason


def test_every_message_is_of_a_subject_that_is_tried() -> None:
    written = {name for name in messages.__all__ if isinstance(getattr(messages, name), type)}
    assert written == {kind.__name__ for kind in KINDS}


@BOTH
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_and_its_bytes_are_a_function_of_it(kind: type[Message], media_type: str) -> None:
    @given(random_messages(kind, media_type))
    def law(message: Message) -> None:
        body = encode_message(message, media_type)
        again = decode_message(kind, body, media_type, max_bytes=1 << 24)
        assert again == message
        assert encode_message(again, media_type) == body

    law()


@BOTH
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_unknown_key_is_refused_in_every_message(kind: type[Message], media_type: str) -> None:
    @given(random_messages(kind, media_type), st.sampled_from(["x", "Run", "next_", ""]))
    def law(message: Message, key: str) -> None:
        plain = message.model_dump(mode="json" if media_type == JSON else "python", exclude_none=True)
        assert _reason(kind, _write({**plain, key: 1}, media_type), media_type) == "bad-message"

    law()


@given(st.binary(max_size=200), st.sampled_from([MSGPACK, JSON]), st.sampled_from(KINDS))
def test_any_bytes_are_a_message_or_a_problem(body: bytes, media_type: str, kind: type[Message]) -> None:
    with contextlib.suppress(ProblemError):
        message = decode_message(kind, body, media_type)
        assert decode_message(kind, encode_message(message, media_type), media_type) == message


@given(random_messages(TaskMessage, MSGPACK), st.data())
def test_a_torn_message_is_refused(message: TaskMessage, data: Any) -> None:
    body = encode_message(message)
    cut = data.draw(st.integers(0, len(body) - 1))
    assert _reason(TaskMessage, body[:cut]) in {"bad-request", "bad-message"}
    assert _reason(TaskMessage, body + b"\x00") == "bad-request"


@BOTH
def test_a_message_over_the_limit_is_refused_before_it_is_read(media_type: str) -> None:
    assert _reason(Registration, b"\xc1" * (MAX_MESSAGE_BYTES + 1), media_type) == "message-too-large"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@BOTH
def test_numbers_are_finite_everywhere(number: float, media_type: str) -> None:
    answer = {"examples": 1, "metrics": {"loss": number}}
    assert _reason(AnswerMessage, _write(answer, media_type), media_type) in {"bad-request", "bad-message"}
    run = {"form": "held", "spec": {"x": [{"y": number}]}}
    assert _reason(PartMessage, _write(run, media_type), media_type) in {"bad-request", "bad-message"}


def test_the_same_key_twice_is_refused() -> None:
    assert _reason(RunCommand, b'{"open":"drop","open":"finish"}', JSON) == "bad-request"
    assert _reason(RunCommand, b"\x82\xa4open\xa4drop\xa4open\xa6finish") == "bad-request"


@BOTH
def test_nesting_is_bounded(media_type: str) -> None:
    def nested(depth: int) -> bytes:
        plain: Any = {}
        for _ in range(depth - 3):
            plain = [plain]
        return _write({"form": "held", "spec": {"x": plain}}, media_type)

    decode_message(PartMessage, nested(MAX_DEPTH), media_type)
    assert _reason(PartMessage, nested(MAX_DEPTH + 1), media_type) == "bad-request"
    assert _reason(PartMessage, nested(500), media_type) == "bad-request"


def test_very_deep_nesting_is_a_problem_not_a_crash() -> None:
    assert _reason(PartMessage, b"[" * 100_000, JSON) == "bad-request"
    assert _reason(PartMessage, b"\x91" * 100_000) == "bad-request"


def test_msgpack_holds_no_extension_types() -> None:
    for extension in (b"\xd4\x05\x00", b"\xc7\x00\x05", b"\xd6\xff\x00\x00\x00\x00"):
        assert _reason(PartMessage, b"\x82\xa4form\xa4held\xa4spec\x81\xa1x" + extension) == "bad-request"


def test_bytes_are_bytes_in_msgpack_and_lower_case_hex_in_json() -> None:
    registration = Registration(spec=bytes(range(8)))
    assert msgpack.unpackb(encode_message(registration))["spec"] == bytes(range(8))
    assert json.loads(encode_message(registration, JSON))["spec"] == "0001020304050607"
    assert _reason(Registration, msgpack.packb({"spec": "0001020304050607"})) == "bad-message"
    for wrong in ("000102030405060", "00010203040506", "0A01020304050607", "00 01020304050607", "zz01020304050607"):
        assert _reason(Registration, json.dumps({"spec": wrong}).encode(), JSON) == "bad-message"


def test_payloads_travel_inside_messages_only_in_msgpack() -> None:
    assert _reason(AnswerMessage, b'{"examples":1,"payload":"00"}', JSON) == "bad-message"
    assert _reason(PartMessage, b'{"inline":"00"}', JSON) == "bad-message"
    with pytest.raises(ValueError, match="JSON"):
        encode_message(AnswerMessage(examples=1, payload=b"\x00"), JSON)


def test_an_inline_payload_is_bounded() -> None:
    decode_message(AnswerMessage, msgpack.packb({"examples": 1, "payload": bytes(MAX_INLINE_BYTES)}))
    body = msgpack.packb({"examples": 1, "payload": bytes(MAX_INLINE_BYTES + 1)})
    assert _reason(AnswerMessage, body) == "bad-message"


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"form": "held", "inline": b""},
        {"form": "held", "digest": bytes(32), "size": 1},
        {"inline": b"", "digest": bytes(32), "size": 1},
        {"digest": bytes(32)},
        {"inline": b"", "size": 0},
        {"form": "delta"},
        {"form": "other", "inline": b""},
    ],
)
def test_a_part_has_exactly_one_source(part: dict[str, Any]) -> None:
    assert _reason(PartMessage, msgpack.packb(part)) == "bad-message"


def test_an_answer_has_at_most_one_payload() -> None:
    assert _reason(AnswerMessage, msgpack.packb({"examples": 1, "payload": b"", "upload": "abcdef"})) == "bad-message"


@BOTH
def test_another_wire_version_is_named_before_its_unknown_keys(media_type: str) -> None:
    assert _reason(Registration, _write({"wire": 2, "new": 1}, media_type), media_type) == "wire-version"
    assert _reason(Registration, _write({"wire": True}, media_type), media_type) == "bad-message"


def test_a_field_that_is_none_is_not_written() -> None:
    assert encode_message(VerdictMessage(verdict="late")) == msgpack.packb({"verdict": "late"})
    assert encode_message(VerdictMessage(verdict="late"), JSON) == b'{"verdict":"late"}'


def test_a_none_inside_settings_is_written() -> None:
    plan = decode_message(Plan, encode_message(_plan({"decay": None})))
    assert plan.settings == {"decay": None}


def _plan(settings: dict[str, Any]) -> Plan:
    chains = {"down": [], "up": [], "full": [], "private": []}
    return Plan.model_validate(
        {
            "run": "abcdef", "method": "fedavg", "settings": settings, "kind": "train", "seed": 1, "rounds": 1,
            "parts": {}, "reply": {}, "chains": chains, "max_examples": 1,
        }
    )  # fmt: skip


@BOTH
def test_a_problem_carries_a_reason_and_a_sentence_that_say_what_to_do(media_type: str) -> None:
    with pytest.raises(ProblemError) as caught:
        decode_message(AnswerMessage, _write({"examples": "many"}, media_type), media_type)
    assert caught.value.reason in REASONS
    assert "examples" in caught.value.detail
    assert "many" not in caught.value.detail  # what was sent may be a secret


def test_the_digest_of_a_spec_depends_on_names_dtypes_and_shapes_but_not_on_order() -> None:
    specs = [
        Spec({"a": ArraySpec("f32", (2,)), "b": ArraySpec("f32", ())}),
        Spec({"a": ArraySpec("f32", (2,)), "c": ArraySpec("f32", ())}),
        Spec({"a": ArraySpec("f64", (2,)), "b": ArraySpec("f32", ())}),
        Spec({"a": ArraySpec("f32", (3,)), "b": ArraySpec("f32", ())}),
        Spec({"a": ArraySpec("f32", (Open(2),)), "b": ArraySpec("f32", ())}),
    ]
    assert len({spec_digest(spec) for spec in specs}) == len(specs)
    assert all(len(spec_digest(spec)) == 8 for spec in specs)
    # A model file keeps its arrays in another order than the model.
    assert all(spec_digest(Spec(reversed(list(spec.items())))) == spec_digest(spec) for spec in specs)
    assert spec_digest(specs[0]).hex() == "5ee62058d74505f7"
