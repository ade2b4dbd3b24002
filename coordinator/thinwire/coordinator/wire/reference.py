"""The page at `/docs`: the OpenAPI document to read. No script, and nothing from elsewhere: the operator's token lies
in this origin.
"""

from __future__ import annotations

from collections import defaultdict
from importlib.resources import files
from typing import Any, Final

POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_METHODS: Final = ("get", "head", "post", "patch", "delete", "options")


def reference(document: dict[str, Any]) -> bytes:
    """An OpenAPI document as HTML."""
    # Most coordinators are never asked for it, and it takes two megabytes.
    from jinja2 import Environment, StrictUndefined

    tags: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                tags[operations[method].get("tags", ["other"])[0]].append(_operation(method, path, operations[method]))
    schemas = {
        name: {"description": schema.get("description", ""), "fields": _fields(schema)}
        for name, schema in sorted(document.get("components", {}).get("schemas", {}).items())
    }
    text = files("thinwire.coordinator.wire").joinpath("reference.html").read_text("utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(text)
    return template.render(info=document["info"], tags=tags, schemas=schemas).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": method,
        "path": path,
        "summary": operation["summary"],
        "token": "security" in operation,
        "takes": _content(operation.get("requestBody", {})),
        "parameters": [
            {"required": False, "description": "", **parameter} for parameter in operation.get("parameters", ())
        ],
        "responses": [
            (status, _content(response), response.get("description", ""))
            for status, response in sorted(operation["responses"].items())
        ],
    }  # fmt: skip


def _content(body: dict[str, Any]) -> list[str]:
    """Each message once, though it is written in two media types."""
    found = {
        _type(media["schema"]) if "$ref" in media["schema"] else kind: None
        for kind, media in body.get("content", {}).items()
    }
    return list(found)


def _fields(schema: dict[str, Any]) -> list[tuple[str, str, bool]]:
    required = schema.get("required", ())
    return [(name, _type(field), name in required) for name, field in schema.get("properties", {}).items()]


def _type(schema: dict[str, Any]) -> str:
    """In a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for either in ("anyOf", "oneOf"):
        if either in schema:
            return " | ".join(_type(one) for one in schema[either])
    if "enum" in schema or "const" in schema:
        return " | ".join(repr(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))
