"""Control messages as bytes: msgpack for our client, JSON for people and integrators."""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import msgpack
from pydantic import BaseModel, ValidationError

from thinwire.codecs import Spec

from .identity import digest_of
from .messages import MAX_MESSAGE_BYTES
from .reasons import ProblemError

MSGPACK: Final = "application/msgpack"
JSON: Final = "application/json"

MessageT = TypeVar("MessageT", bound=BaseModel)


def encode_message(message: BaseModel, media_type: str = MSGPACK) -> bytes:
    """The body. The same message gives the same bytes."""
    if media_type == JSON:
        return message.model_dump_json(exclude_none=True).encode()
    return bytes(msgpack.packb(message.model_dump(exclude_none=True)))


def decode_message(
    kind: type[MessageT], body: bytes, media_type: str = MSGPACK, *, max_bytes: int = MAX_MESSAGE_BYTES
) -> MessageT:
    """The message. Raises `ProblemError`: `message-too-large`, `bad-request`, `bad-message`."""
    if len(body) > max_bytes:
        raise ProblemError("message-too-large", f"{len(body)} bytes; at most {max_bytes}")
    plain = _plain(body, media_type, max_bytes)
    try:
        if media_type == JSON:
            # Through JSON mode, so that a list may stand for a tuple and a whole number for a float.
            return kind.model_validate_json(body)
        return kind.model_validate(_tuples(plain, kind))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or kind.__name__
        raise ProblemError("bad-message", f"{kind.__name__}: {where}: {first['msg']}") from None


def _plain(body: bytes, media_type: str, max_bytes: int) -> Any:
    try:
        if media_type == JSON:
            return json.loads(body, object_pairs_hook=_no_duplicates)
        return msgpack.unpackb(
            body,
            strict_map_key=True,
            object_pairs_hook=_no_duplicates,
            max_str_len=max_bytes,
            max_bin_len=max_bytes,
            max_array_len=1 << 14,
            max_map_len=1 << 14,
            max_ext_len=0,
        )
    except (msgpack.UnpackException, ValueError, RecursionError) as error:
        raise ProblemError("bad-request", f"the body is not {media_type}: {type(error).__name__}") from None


def _no_duplicates(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the same key twice")
    return found


def _tuples(plain: Any, kind: type[BaseModel]) -> Any:
    """msgpack has no tuples: `link` comes as a list."""
    if isinstance(plain, dict) and isinstance(plain.get("link"), list) and "link" in kind.model_fields:
        return {**plain, "link": tuple(plain["link"])}
    return plain


def spec_digest(spec: Spec) -> bytes:
    """The first 8 bytes of the digest of a spec's msgpack form."""
    return digest_of(bytes(msgpack.packb(spec.to_plain())))[:8]
