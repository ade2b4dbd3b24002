"""The short form of the messages of an exchange: places instead of names.

A message is an array: first a number whose bit i says that field i of the message, in the order of its table, is there
and not without a value; then those values, in order. A text of a closed list is its place in the list. Metrics are an
array: a number whose bits say which of `METRICS` are there, their values in this order, then name and value of each
other one in turn; a value that is a whole number is written as an integer. Everything else is as in msgpack. So fields
are only ever added behind the last one.

`known`: fields of a `TaskMessage` that both ends know from the task before, which are left out where they are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import msgpack
from pydantic import BaseModel

from .encoding import plain_of, validated
from .messages import MAX_MESSAGE_BYTES, TaskMessage
from .reasons import ProblemError

METRICS: Final = ("loss", "accuracy", "examples", "seconds", "unmoved", "not_finite")
"""Names that are a place in the short form; only ever added to."""
_WHOLE: Final = 1 << 53

MessageT = TypeVar("MessageT", bound=BaseModel)
Known = Mapping[str, Any]


def encode_short(message: BaseModel, known: Known | None = None) -> bytes:
    """The body. The same message gives the same bytes."""
    return bytes(msgpack.packb(_shortened(type(message), message.model_dump(exclude_none=True), known or {})))


def decode_short(kind: type[MessageT], body: bytes, known: Known | None = None) -> MessageT:
    """The message. Raises `ProblemError`: `message-too-large`, `bad-request`, `wire-version`, `bad-message`."""
    plain = plain_of(body, MAX_MESSAGE_BYTES)
    try:
        named = _named(kind, plain, known or {})
    except (TypeError, ValueError, IndexError, StopIteration):
        raise ProblemError("bad-message", f"{kind.__name__}: not its short form") from None
    return validated(kind, named)


def _shortened(kind: type[BaseModel], named: Mapping[str, Any], known: Known) -> list[Any]:
    there, values = 0, []
    for place, (name, hint) in enumerate(_fields(kind)):
        if name not in named or (kind is TaskMessage and name in known and known[name] == named[name]):
            continue
        there |= 1 << place
        values.append(_short_value(name, hint, named[name], known))
    return [there, *values]


def _short_value(name: str, hint: Any, value: Any, known: Known) -> Any:
    if name == "metrics":
        return _short_metrics(value)
    kind = _message_in(hint)
    if kind is not None:
        if isinstance(value, list):
            return [_shortened(kind, item, known) for item in value]
        return _shortened(kind, value, known)
    words = _words_in(hint)
    return words.index(value) if words else value


def _short_metrics(metrics: Mapping[str, float]) -> list[Any]:
    usual = [name for name in METRICS if name in metrics]
    others = [item for name, value in metrics.items() if name not in METRICS for item in (name, _number(value))]
    return [sum(1 << METRICS.index(name) for name in usual), *(_number(metrics[name]) for name in usual), *others]


def _number(value: float) -> float | int:
    whole = abs(value) < _WHOLE and value == int(value) and str(value)[0] != "-"
    return int(value) if whole else value


def _named(kind: type[BaseModel], plain: Any, known: Known) -> dict[str, Any]:
    """Raises: `TypeError`, `ValueError`, `IndexError`, `StopIteration`."""
    there, *values = plain
    fields = _fields(kind)
    if type(there) is not int or not 0 <= there < 1 << len(fields) or there.bit_count() != len(values):
        raise ValueError("not as many values as are there")
    rest = iter(values)
    named = dict(known) if kind is TaskMessage else {}
    for place, (name, hint) in enumerate(fields):
        if there >> place & 1:
            named[name] = _named_value(name, hint, next(rest), known)
    return named


def _named_value(name: str, hint: Any, value: Any, known: Known) -> Any:
    if name == "metrics":
        return _named_metrics(iter(value))
    kind = _message_in(hint)
    if kind is not None:
        if get_origin(hint) is list or any(get_origin(one) is list for one in get_args(hint)):
            return [_named(kind, item, known) for item in value]
        return _named(kind, value, known)
    words = _words_in(hint)
    if not words:
        return value
    if type(value) is not int or value < 0:
        raise ValueError("no place in a list")
    return words[value]


def _named_metrics(rest: Iterator[Any]) -> dict[str, float]:
    there = next(rest)
    if type(there) is not int or not 0 <= there < 1 << len(METRICS):
        raise ValueError("no such metrics")
    found = {name: _float(next(rest)) for place, name in enumerate(METRICS) if there >> place & 1}
    for name in rest:
        if name in found or name in METRICS:
            raise ValueError("the same metric twice")
        found[name] = _float(next(rest))
    return found


def _float(value: object) -> float:
    if type(value) not in (int, float):
        raise ValueError("no number")
    return float(value)  # type: ignore[arg-type]


def _fields(kind: type[BaseModel]) -> list[tuple[str, Any]]:
    return [(name, field.annotation) for name, field in kind.model_fields.items()]


def _message_in(hint: Any) -> type[BaseModel] | None:
    """The message that a field holds, or several of."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    if get_origin(hint) is dict:
        return None
    return next((found for one in get_args(hint) if (found := _message_in(one)) is not None), None)


def _words_in(hint: Any) -> tuple[str, ...]:
    """Of a field that holds one of a closed list of texts."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return ()
