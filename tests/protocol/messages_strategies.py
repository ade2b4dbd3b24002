"""Random messages of every kind."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from thinwire.protocol import fields, messages
from thinwire.protocol.encoding import JSON
from thinwire.protocol.messages import (
    attendance,
    enrolment,
    exchanges,
    ledger,
    pending,
    problem,
    problems,
    runs,
    webhooks,
)
from thinwire.protocol.reasons import WIRE_VERSION
from thinwire.protocol.settings import RunSettings

_SUBJECTS = (problem, enrolment, pending, exchanges, runs, attendance, ledger, problems, webhooks)
KINDS: list[type[fields.Message]] = [
    kind
    for subject in _SUBJECTS
    for kind in vars(subject).values()
    if isinstance(kind, type) and kind.__module__ == subject.__name__
]

_COUNTS = st.integers(0, 2**63 - 1)
_FLOATS = st.floats(0, 1e300, exclude_min=True, allow_subnormal=False)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | _FLOATS | _TEXT
_PLAIN = st.dictionaries(
    _TEXT,
    st.recursive(
        st.none() | _SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)
_OF_TYPE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (fields.Digest, st.binary(min_size=32, max_size=32)),
    (fields.SpecDigest, st.binary(min_size=8, max_size=8)),
    (fields.Nonce, st.binary(min_size=16, max_size=16)),
    (fields.Inline, st.binary(max_size=100)),
    (fields.Id, st.from_regex(r"[a-z0-9]{6,12}", fullmatch=True)),
    (fields.Name, st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)),
    (fields.Token, st.from_regex(r"[A-Za-z0-9_.~+/=-]{1,200}", fullmatch=True)),
    (fields.ShortCode, st.from_regex(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", fullmatch=True)),
    (fields.Count, _COUNTS),
    (fields.Metrics, st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True), _FLOATS, max_size=12)),
    (fields.Plain, _PLAIN),
    (fields.Url, st.from_regex(r"https://[a-z]{1,9}\.example/[a-z]{0,9}", fullmatch=True)),
    (fields.Pair, st.tuples(_COUNTS, _COUNTS)),
    (RunSettings, st.builds(RunSettings, rounds=st.integers(1, 100), seed=_COUNTS, deadline_s=st.none() | _FLOATS)),
    (bool, st.booleans()),
    (int, st.integers(1, 1000)),
    (float, _FLOATS),
    (str, _TEXT),
    (types.NoneType, st.none()),
]


def random_messages(kind: type[fields.Message], media_type: str) -> st.SearchStrategy[Any]:
    """Messages of this kind that may be written so: those with a payload inside only in msgpack."""
    if kind is messages.PartMessage:
        return _parts(media_type)
    hints = get_type_hints(kind, include_extras=True)
    given = {}
    for name in kind.model_fields:
        values = _values(hints[name], media_type)
        given[name] = values
    if kind is messages.AnswerMessage:
        sources = {name: given.pop(name) for name in ("payload", "upload", "received")}
        if media_type == JSON:
            del sources["payload"]
        one = st.just({}) | st.one_of(*(st.fixed_dictionaries({name: it}) for name, it in sources.items()))
        return st.tuples(st.fixed_dictionaries(given), one).map(lambda pair: kind(**pair[0], **pair[1]))
    if "wire" in given:
        given["wire"] = st.just(WIRE_VERSION)
    return st.builds(kind, **given)


def _parts(media_type: str) -> st.SearchStrategy[messages.PartMessage]:
    forms = st.sampled_from(["full", "delta"])
    specs = st.none() | _PLAIN
    held = st.builds(messages.PartMessage, form=st.just("held"), spec=specs)
    named = st.builds(
        messages.PartMessage, form=forms, digest=_values(fields.Digest, media_type), size=_COUNTS, spec=specs
    )
    inline = st.builds(messages.PartMessage, form=forms, inline=_values(fields.Inline, media_type), spec=specs)
    return held | named if media_type == JSON else held | named | inline


def _values(hint: Any, media_type: str) -> st.SearchStrategy[Any]:
    for known, strategy in _OF_TYPE:
        if hint == known:
            return strategy
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of(*(_values(item, media_type) for item in inside))
    if origin is Literal:
        return st.sampled_from(inside)
    if origin is list:
        return st.lists(_values(inside[0], media_type), max_size=2)
    if origin is dict:
        return st.dictionaries(_values(inside[0], media_type), _values(inside[1], media_type), max_size=3)
    if isinstance(hint, type) and issubclass(hint, fields.Message):
        return st.deferred(lambda: random_messages(hint, media_type))
    raise TypeError(f"no strategy for {hint}")
