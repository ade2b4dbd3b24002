"""What is written to whom: `Accept` by RFC 9110, section 12.5.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from thinwire.coordinator.wire.negotiation import response_type
from thinwire.protocol.encoding import JSON, MSGPACK
from thinwire.protocol.reasons import ProblemError

REFUSED = "not-acceptable"


def _request(*accept: str, sent: str | None = None) -> Request:
    headers = [(b"accept", value.encode("latin-1")) for value in accept]
    if sent is not None:
        headers.append((b"content-type", sent.encode()))
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


def _answered(*accept: str, sent: str | None = None) -> str | None:
    """The media type, or the reason why there is none."""
    try:
        return response_type(_request(*accept, sent=sent))
    except ProblemError as error:
        return error.reason


@pytest.mark.parametrize(
    ("accept", "sent", "answered"),
    [
        ([], None, JSON),
        ([], MSGPACK, MSGPACK),
        ([""], MSGPACK, MSGPACK),
        (["*/*"], JSON, JSON),
        (["*/*"], f"{MSGPACK}; x=1", MSGPACK),
        ([JSON], MSGPACK, JSON),
        ([MSGPACK], JSON, MSGPACK),
        ([f"{JSON}, {MSGPACK}"], JSON, MSGPACK),
        ([JSON, MSGPACK], JSON, MSGPACK),
        ([f"{JSON}, */*"], MSGPACK, JSON),
        ([f"{JSON}, application/*"], MSGPACK, JSON),
        ([f"{JSON};charset=utf-8"], None, JSON),
        ([JSON.upper()], None, JSON),
        (["text/html"], JSON, REFUSED),
        (["text/*"], JSON, REFUSED),
        # by weight
        ([f"{MSGPACK};q=0.5, {JSON};q=0.9"], None, JSON),
        ([f"{MSGPACK};q=0.9, {JSON};q=0.5"], None, MSGPACK),
        ([f"{MSGPACK};q=0.1, */*"], None, JSON),
        ([f"{JSON};q=0.5, */*;q=0.8"], None, MSGPACK),
        ([f"text/html, {JSON};q=0.001"], None, JSON),
        # the most specific range counts
        ([f"*/*, {MSGPACK};q=0"], MSGPACK, JSON),
        ([f"application/*;q=0, {JSON}, */*"], MSGPACK, JSON),
        (["application/*;q=0, */*"], None, REFUSED),
        ([f"{JSON};q=0, {MSGPACK};q=0, */*"], None, REFUSED),
        # what is no weight is none
        ([f"{JSON};q=much"], None, JSON),
        ([f"{JSON};q=0.0000"], None, JSON),
        ([f"{JSON};q=-1, {MSGPACK};q=0.5"], None, JSON),
        ([f"{JSON};q="], None, JSON),
        ([f"{JSON};q=nan, {MSGPACK};q=inf"], None, MSGPACK),
        ([f";q=1, , {JSON}"], None, JSON),
    ],
)
def test_the_answer_is_what_the_peer_wants_most(accept: list[str], sent: str | None, answered: str) -> None:
    assert _answered(*accept, sent=sent) == answered


@pytest.mark.parametrize("zero", ["q=0", "q=0.", "q=0.0", "q=0.00", "q=0.000", "Q=0", " q = 0.0 ", "q=0;ext=1"])
def test_a_weight_of_nothing_refuses_however_it_is_written(zero: str) -> None:
    assert _answered(f"{JSON};{zero}") == REFUSED
    assert _answered(f"*/*;{zero}") == REFUSED
    assert _answered(f"{MSGPACK};{zero}, {JSON};q=0.001", sent=MSGPACK) == JSON
    assert _answered(f"{JSON};level=1;{zero}, {MSGPACK};q=0.001") == MSGPACK


weights = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


@given(weights, weights)
def test_the_larger_weight_wins(json: float, msgpack: float) -> None:
    wanted = REFUSED if not json and not msgpack else MSGPACK if msgpack >= json else JSON
    assert _answered(f"{JSON};q={json:.3f}, {MSGPACK};q={msgpack:.3f}") == wanted


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60))
def test_no_header_is_more_than_a_preference(accept: str) -> None:
    assert _answered(accept) in (JSON, MSGPACK, REFUSED)
