"""The OpenAPI document is the truth: whatever a peer makes of it, the answer is one that it names. By Schemathesis."""

from __future__ import annotations

from typing import Any

import hypothesis
import msgpack
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.coordinator.served import Served
from tests.coordinator.test_endpoints import enrolled
from thinwire.protocol.encoding import JSON, MSGPACK
from thinwire.protocol.reasons import REASONS

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OF_CLIENTS = ("/v1/registrations", "/v1/tasks", "/v1/uploads", "/v1/plans", "/v1/payloads")
ENDLESS = ("/v1/runs/{run}/events", "/v1/events")
METHODS = {"get", "head", "post", "patch", "delete", "options"}


@schemathesis.serializer(MSGPACK)
def _packed(_context: Any, value: Any) -> Any:
    try:
        return msgpack.packb(value)
    except (TypeError, ValueError, OverflowError):  # what msgpack cannot say, such as an integer of 70 bits
        return b"\xc1"


@schemathesis.serializer("application/offset+octet-stream")
def _as_it_is(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.deserializer(MSGPACK)
def _unpacked(_context: Any, response: Any) -> Any:
    return _in_hex(msgpack.unpackb(response.content))


def _in_hex(value: Any) -> Any:
    """As JSON would say it: the schema is that of JSON."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _in_hex(inner) for key, inner in value.items()}
    return [_in_hex(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def client(standing: Served) -> dict[str, str]:
    standing.run(cohort=1, name="documented", group="documented")
    return enrolled(standing, "documented-client", group="documented")


@pytest.fixture(scope="module")
def operations(standing: Served) -> dict[tuple[str, str], Any]:
    schema = schemathesis.openapi.from_url(f"{standing.url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    return {(operation.method, operation.path): operation for operation in found}


def _documented() -> list[tuple[str, str]]:
    from thinwire.coordinator.api import (
        client_logs,
        enrolment,
        events,
        exchanges,
        health,
        payloads,
        pending,
        problems,
        runs,
        uploads,
        webhooks,
    )

    of_clients = (enrolment, client_logs, pending, exchanges, payloads, uploads)
    return [
        (method.lower(), route.path)
        for router in (*of_clients, runs, events, problems, webhooks, health)
        for route in router.router.routes
        for method in sorted(route.methods)  # type: ignore[attr-defined]
        if route.path not in ENDLESS  # type: ignore[attr-defined]
    ]


def _examples(default: int) -> int:
    """As many, in the same proportion, as the profile asks for."""
    return max(1, hypothesis.settings().max_examples * default // 60)


@pytest.mark.hypothesis
@pytest.mark.parametrize(("method", "path"), _documented())
def test_every_answer_is_one_that_the_document_names(
    standing: Served, client: dict[str, str], operations: dict[tuple[str, str], Any], method: str, path: str
) -> None:
    operation = operations[method, path]
    kinds = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]
    cases = st.one_of(*kinds)
    names = [standing.operator, client, {}, {"authorization": "Bearer wrong"}]
    usual = client if path.startswith(OF_CLIENTS) else standing.operator

    @hypothesis.settings(
        max_examples=_examples(8), deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @hypothesis.given(case=cases, who=st.sampled_from([usual] * 8 + names), data=st.data())
    def law(case: Any, who: dict[str, str], data: Any) -> None:
        if who and who == standing.operator:
            who = standing.operator
        query = dict(case.query or {})
        query.pop("wait_s", None)
        case.query = query
        accept = data.draw(st.sampled_from([JSON, MSGPACK, "*/*"]))
        headers = {"accept": accept, **who}
        for name in list(case.headers or {}):
            if name.lower() in ("authorization", "accept"):
                del case.headers[name]
        case.call_and_validate(
            base_url=standing.url, headers=headers, checks=CHECKS, timeout=30,
        )  # fmt: skip

    law()


def test_every_operation_names_its_problems(operations: dict[tuple[str, str], Any]) -> None:
    """Each status of a problem is in the document with the reasons that have it."""
    for operation in operations.values():
        for status, response in operation.definition.raw["responses"].items():
            for reason in str(response.get("description", "")).split("`")[1::2]:
                if reason in REASONS:
                    assert REASONS[reason].status == int(status)


def test_reading_the_document_needs_no_more_than_it_says(operations: dict[tuple[str, str], Any]) -> None:
    assert set(_documented()) | {("get", path) for path in ENDLESS} == set(operations)
    assert {method for method, _ in operations} <= METHODS
