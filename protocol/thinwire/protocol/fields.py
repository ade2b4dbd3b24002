"""The types of the fields of messages, and the base of all messages: strict, immutable, nothing unknown, no NaN."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationInfo,
    WithJsonSchema,
)

from .identity import ID, NAME
from .places import on_this_machine

MAX_INLINE_BYTES: Final = 1 << 16
"""Payloads up to this size, in all of one message, travel inside it."""
MAX_INLINE_FIRST_BYTES: Final = 1 << 12
"""Parts of a run's first exchange that are larger are named by their digest, since clients make a fresh first model."""
MAX_MESSAGE_BYTES: Final = 1 << 18
"""No control message, its inline payloads included, is larger."""

MAX_LOG_LINES: Final = 200
"""Of a client that its coordinator keeps."""
MAX_SAID: Final = 300
"""Characters of one of them."""

_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")


class Message(BaseModel):
    """Base of all control messages."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _from_hex(value: object, info: ValidationInfo) -> object:
    if info.mode != "json" or not isinstance(value, str):
        return value
    if not _HEX.fullmatch(value):
        raise ValueError("bytes are lower-case hex in JSON")
    return bytes.fromhex(value)


def _to_hex(value: bytes, info: SerializationInfo) -> bytes | str:
    return value.hex() if info.mode == "json" else value


def _only_in_msgpack(value: object, info: ValidationInfo) -> object:
    if info.mode == "json":
        raise ValueError("payloads travel inside a message only in msgpack; name a digest or an upload")
    return value


def _never_to_json(value: bytes, info: SerializationInfo) -> bytes:
    if info.mode == "json":
        raise ValueError("a message with a payload inside cannot be written as JSON")
    return value


def _only_json_values(value: dict[str, Any]) -> dict[str, Any]:
    stack: list[object] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                raise ValueError("keys are text")
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("numbers are finite")
        elif not isinstance(item, bool | int | float | str | None):
            raise ValueError(f"a {type(item).__name__} has no place here")
    return value


def _may_be_told(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("a URL has no spaces and no letters beyond ASCII: write them as %20")
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("write https://HOST/PATH")
    if parts.scheme == "http" and not on_this_machine(host):
        raise ValueError("beyond this machine only https is told: the messages name people's devices")
    if parts.username is not None or parts.fragment:
        raise ValueError("no name or password in the URL, and no fragment: the signature says who asks")
    return url


def _hex_schema(size: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^[0-9a-f]{{{2 * size}}}$"})


_Hex = (BeforeValidator(_from_hex), PlainSerializer(_to_hex))

Digest = Annotated[bytes, *_Hex, Field(min_length=32, max_length=32), _hex_schema(32)]
SpecDigest = Annotated[bytes, *_Hex, Field(min_length=8, max_length=8), _hex_schema(8)]
Nonce = Annotated[bytes, *_Hex, Field(min_length=16, max_length=16), _hex_schema(16)]
Inline = Annotated[
    bytes, BeforeValidator(_only_in_msgpack), PlainSerializer(_never_to_json), Field(max_length=MAX_INLINE_BYTES)
]
Id = Annotated[str, Field(pattern=f"^{ID.pattern}$")]
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
# What a header carries unchanged: a token with a line break in it would write headers of its own.
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.~+/=-]{1,200}$")]
# Crockford's digits, so that none is taken for another where people compare what they read.
ShortCode = Annotated[str, Field(pattern=r"^[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Metrics = Annotated[dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], float], Field(max_length=12)]
Plain = Annotated[dict[str, Any], AfterValidator(_only_json_values)]
"""What JSON can say, under text keys: settings, specs, configurations of codecs."""
# msgpack has no tuples: a pair comes as a list.
Pair = Annotated[tuple[Count, Count], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]

Url = Annotated[str, Field(max_length=2000), AfterValidator(_may_be_told)]
"""Of somebody who is told: https, or http on this machine."""

Role = Literal["client", "evaluator", "reader", "operator"]
Verdict = Literal["accepted", "duplicate", "late", "refused"]
RunState = Literal["pending", "running", "paused", "finished"]
EventKind = Literal["run", "answer", "exchange"]
RunOutcome = Literal["completed", "failed", "stopped"]
