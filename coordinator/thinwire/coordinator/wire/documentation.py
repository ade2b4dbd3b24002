"""What `/docs` and `/openapi.json` say: every route with its messages in both encodings and its problems."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from thinwire.protocol import messages
from thinwire.protocol.encoding import JSON, MSGPACK
from thinwire.protocol.fields import Message
from thinwire.protocol.reasons import REASONS

from .reference import POLICY, reference

_REFERENCE = "#/components/schemas/{model}"
BYTES = "application/octet-stream"


def _schema(kind: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}


def _both(kind: type[BaseModel]) -> dict[str, Any]:
    return {JSON: _schema(kind), MSGPACK: _schema(kind)}


def describe(
    summary: str,
    *,
    takes: type[BaseModel] | str | None = None,
    gives: type[BaseModel] | str | None = None,
    status: int = 200,
    also: dict[int, str] | None = None,
    problems: Iterable[str] = (),
    parameters: list[dict[str, Any]] | None = None,
    token: bool = True,
) -> dict[str, Any]:
    """Keyword arguments of a route. `takes`, `gives`: a message or a media type; `also`: further statuses without
    a problem; `problems`: reasons, from which statuses and their meanings follow.
    """
    responses: dict[int | str, dict[str, Any]] = {status: {"description": summary}}
    if isinstance(gives, str):
        responses[status]["content"] = {gives: {"schema": {"type": "string", "format": "binary"}}}
    elif gives is not None:
        responses[status]["content"] = _both(gives)
    for code, meaning in (also or {}).items():
        responses[code] = {"description": meaning}
    reasons = ["too-many-requests", *problems, *(("token-missing", "token-invalid") if token else ())]
    if takes is not None and not isinstance(takes, str):
        reasons += ["bad-request", "bad-message", "message-too-large", "unsupported-media-type", "not-acceptable"]
    by_status: dict[int, list[str]] = {}
    for reason in reasons:
        by_status.setdefault(REASONS[reason].status, []).append(f"`{reason}`: {REASONS[reason].meaning}")
    for code, meanings in sorted(by_status.items()):
        responses[code] = {"description": "\n\n".join(meanings), "content": _both(messages.Problem)}
    extra: dict[str, Any] = {}
    if isinstance(takes, str):
        extra["requestBody"] = {
            "required": True, "content": {takes: {"schema": {"type": "string", "format": "binary"}}},
        }  # fmt: skip
    elif takes is not None:
        extra["requestBody"] = {"required": True, "content": _both(takes)}
    if parameters:
        extra["parameters"] = parameters
    if token:
        extra["security"] = [{"token": []}]
    return {
        "summary": summary, "status_code": status, "responses": responses, "openapi_extra": extra,
        "response_class": Response,  # of FastAPI's own the document would say that it always has a JSON body
    }  # fmt: skip


def header(name: str, description: str, *, required: bool = True) -> dict[str, Any]:
    """A header parameter."""
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }


def _replace_validation_errors(document: dict[str, Any]) -> None:
    """FastAPI's own shape for a bad parameter is never sent: it is a `Problem`, too."""
    problem = {"description": f"`bad-message`: {REASONS['bad-message'].meaning}", "content": _both(messages.Problem)}
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                operation["responses"]["422"] = problem


def install(app: FastAPI) -> None:
    """Replaces the application's OpenAPI document by one with the messages' schemas, and shows it at `/docs`."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            plain = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            kinds = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, Message)]
            wanted = [(kind, "validation") for kind in kinds if kind is not Message]
            _, schemas = models_json_schema(wanted, ref_template=_REFERENCE)  # type: ignore[arg-type]
            _replace_validation_errors(plain)
            components = plain.setdefault("components", {})
            components["schemas"] = schemas.get("$defs", {})
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            app.openapi_schema = plain
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

    page: list[bytes] = []

    async def docs(_request: Request) -> Response:
        if not page:
            page.append(reference(document()))
        headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
        return Response(page[0], media_type="text/html", headers=headers)

    app.add_route("/docs", docs, include_in_schema=False)
