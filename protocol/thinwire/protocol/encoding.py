"""Control messages as bytes: msgpack for our client, JSON for people and integrators."""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import msgpack
from pydantic import BaseModel, ValidationError

from thinwire.codecs import Spec

from .identity import digest_of
from .messages import MAX_MESSAGE_BYTES
from .reasons import WIRE_VERSION, ProblemError

MSGPACK: Final = "application/msgpack"
JSON: Final = "application/json"
MAX_DEPTH: Final = 32
"""Of maps and arrays inside each other."""

MessageT = TypeVar("MessageT", bound=BaseModel)


def encode_message(message: BaseModel, media_type: str = MSGPACK) -> bytes:
    """The body. The same message gives the same bytes."""
    if media_type == JSON:
        return message.model_dump_json(exclude_none=True).encode()
    return bytes(msgpack.packb(message.model_dump(exclude_none=True)))


def decode_message(
    kind: type[MessageT], body: bytes, media_type: str = MSGPACK, *, max_bytes: int = MAX_MESSAGE_BYTES
) -> MessageT:
    """The message. Raises `ProblemError`: `message-too-large`, `bad-request`, `wire-version`, `bad-message`."""
    plain = plain_of(body, max_bytes, media_type)
    return validated(kind, plain, body if media_type == JSON else None)


def validated(kind: type[MessageT], plain: Any, text: bytes | None = None) -> MessageT:
    """The message of these values, or of its JSON `text`. Raises `ProblemError`: `wire-version`, `bad-message`."""
    # Before the schema: a newer peer's message may have keys that this version does not know.
    wire = plain.get("wire", WIRE_VERSION) if isinstance(plain, dict) and "wire" in kind.model_fields else WIRE_VERSION
    if type(wire) is int and wire != WIRE_VERSION:
        raise ProblemError("wire-version", f"the peer speaks version {wire}; this side version {WIRE_VERSION}")
    try:
        # JSON through JSON mode, where bytes are hex.
        return kind.model_validate(plain) if text is None else kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or kind.__name__
        raise ProblemError("bad-message", f"{kind.__name__}: {where}: {first['msg']}") from None


def plain_of(body: bytes, max_bytes: int, media_type: str = MSGPACK) -> Any:
    """What a body holds. Raises `ProblemError`: `message-too-large`, `bad-request`."""
    if len(body) > max_bytes:
        raise ProblemError("message-too-large", f"{len(body)} bytes; at most {max_bytes}")
    try:
        if media_type == JSON:
            plain = json.loads(body.decode(), object_pairs_hook=_no_duplicates, parse_constant=_refuse)
        else:
            _check_complete(body)
            plain = msgpack.unpackb(
                body,
                strict_map_key=True,
                object_pairs_hook=_no_duplicates,
                ext_hook=_refuse,
                max_str_len=max_bytes,
                max_bin_len=max_bytes,
                max_array_len=1 << 14,
                max_map_len=1 << 14,
                max_ext_len=0,
            )
        _check_depth(plain)
    except (msgpack.UnpackException, ValueError, RecursionError) as error:
        what = str(error) if type(error) is ValueError else type(error).__name__
        raise ProblemError("bad-request", f"the body is not {media_type}: {what}") from None
    return plain


def _check_complete(body: bytes) -> None:
    """Everything that is declared is there: memory is reserved for what a header promises, a body only pays for what it
    holds. Raises: `msgpack.UnpackException`, `ValueError`.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=len(body) or 1)
    unpacker.feed(body)
    unpacker.skip()


def _no_duplicates(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the same key twice")
    return found


def _refuse(*_: object) -> Any:
    raise ValueError("neither NaN nor an extension type has a place here")


def _check_depth(plain: object) -> None:
    """Raises `ValueError` beyond `MAX_DEPTH`, so that nothing behind this recurses further."""
    level = [plain]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH}")


def spec_digest(spec: Spec) -> bytes:
    """The first 8 bytes of the digest of a spec's msgpack form, names in order of their code points.

    Sorted, because a model file keeps its arrays in another order than the model.
    """
    return digest_of(bytes(msgpack.packb(dict(sorted(spec.to_plain().items())))))[:8]
