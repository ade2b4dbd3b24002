"""Writes the tables and bytes of `protocol/README.md` that follow from the code.

Run as `python -m tests.protocol.write_readme`. Each stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, MaxLen

from tests.protocol.messages_strategies import KINDS
from tests.protocol.worked_round import worked_round
from thinwire.protocol import fields
from thinwire.protocol.reasons import REASONS
from thinwire.protocol.settings import RunSettings

README: Final = Path(__file__).resolve().parents[2] / "protocol" / "README.md"

_TYPES: list[tuple[Any, str]] = [
    (fields.Digest, "bytes(32)"),
    (fields.SpecDigest, "bytes(8)"),
    (fields.Nonce, "bytes(16)"),
    (fields.Inline, "bytes(..65536), msgpack only"),
    (fields.Id, "id"),
    (fields.Name, "name"),
    (fields.Token, "token"),
    (fields.ShortCode, "short code"),
    (fields.Count, "count"),
    (fields.Metrics, "metrics"),
    (fields.Plain, "plain map"),
    (fields.Pair, "[count, count]"),
    (fields.Url, "https URL"),
    (RunSettings, "run settings"),
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "text"),
]


def _type(hint: Any) -> str:
    for known, text in _TYPES:
        if hint == known:
            return text
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(item) for item in inside if item is not types.NoneType)
    if origin is Literal:
        return " \\| ".join(f"`{item}`" for item in inside)
    if origin is list:
        return f"list of {_type(inside[0])}"
    if origin is dict:
        return f"map {_type(inside[0])} -> {_type(inside[1])}"
    if isinstance(hint, type) and issubclass(hint, fields.Message):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    raise TypeError(f"no words for {hint}")


def _bounds(metadata: list[Any]) -> str:
    words = []
    for item in metadata:
        match item:
            case Ge(ge=least):
                words.append(f"≥ {least}")
            case Gt(gt=least):
                words.append(f"> {least}")
            case Le(le=most):
                words.append(f"≤ {most}")
            case MaxLen(max_length=most):
                words.append(f"at most {most} long")
    return ", ".join(words)


def messages() -> str:
    """A section for each message: its docstring and a row for each key."""
    sections = []
    for kind in KINDS:
        hints = get_type_hints(kind, include_extras=True)
        rows = []
        for name, field in kind.model_fields.items():
            described = any(hints[name] == known for known, _ in _TYPES[:9])
            bounds = "" if described else _bounds(field.metadata)
            text = _type(hints[name]) + (f", {bounds}" if bounds else "")
            if field.is_required():
                presence = "yes"
            elif field.default is None:
                presence = "no"
            else:
                default = field.get_default(call_default_factory=True)
                presence = f"no: `{default}`"
            rows.append(f"| `{name}` | {text} | {presence} |")
        doc = inspect.cleandoc(kind.__doc__ or "")
        sections.append(f"### {kind.__name__}\n\n{doc}\n\n| key | type | required |\n|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(sections)


def reasons() -> str:
    """A row for each reason."""
    rows = [
        f"| `{name}` | {entry.status} | {'yes' if entry.retry else 'no'} | {entry.since}"
        f"{', retired' if entry.retired else ''} | {entry.meaning} |"
        for name, entry in REASONS.items()
    ]
    return "| reason | status | retry | since | meaning |\n|---|---|---|---|---|\n" + "\n".join(rows)


def round_in_bytes() -> str:
    """Each step of the worked round, with hex dumps of its bodies."""
    steps = []
    for number, step in enumerate(worked_round(), 1):
        lines = [f"> {step.request}", *_dump(step.request_body), f"< {step.answer}", *_dump(step.answer_body)]
        sizes = f"{len(step.request_body)} bytes up, {len(step.answer_body)} bytes down."
        steps.append(f"**{number}.** {step.what} Bodies: {sizes}\n\n```text\n" + "\n".join(lines) + "\n```")
    return "\n\n".join(steps)


def _dump(body: bytes) -> list[str]:
    lines = []
    for offset in range(0, len(body), 16):
        row = body[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"  {offset:04x}  {row.hex(' '):<47}  {text}")
    return lines


BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "messages": messages,
    "reasons": reasons,
    "round": round_in_bytes,
}


def filled(text: str) -> str:
    """The text with every generated block as the code has it. Raises: `KeyError` for a block nobody writes."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- generated: {match[1]} -->\n\n{BLOCKS[match[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- generated: (\w+) -->.*?<!-- end -->", block, text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
