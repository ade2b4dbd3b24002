"""What can be deleted, a run that is over and a client, leaves nothing but the bytes and names in histories."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from tests.coordinator.served import Served
from tests.coordinator.test_endpoints import problem_of
from tests.coordinator.test_runs import whole_run
from thinwire.operator.client import Coordinator


def of_answers(served: Served) -> int:
    """The payload bytes of all answers, on the bill of everything that has ever crossed."""
    kinds = served.get("/bill.json").json()["kinds"]
    return sum(int(row["uplink_payload_bytes"]) for row in kinds if row["kind"] == "answer")


def test_a_deleted_run_leaves_its_bytes_and_nothing_else(serve: Callable[..., Served]) -> None:
    served = serve()
    run = served.run(name="gone")
    url = f"{served.url}/v1/runs/gone"
    assert problem_of(httpx.delete(url, headers=served.operator)).reason == "run-state"
    asyncio.run(whole_run(served))
    before = of_answers(served)
    assert before > 0
    reader = httpx.post(f"{served.url}/v1/clients", json={"invite": served.invite(role="reader")}).json()["token"]
    refused = httpx.delete(url, headers={"authorization": f"Bearer {reader}"})
    assert problem_of(refused).reason == "not-allowed"
    assert httpx.delete(url, headers=served.operator).status_code == 204
    assert problem_of(httpx.delete(url, headers=served.operator)).reason == "run-not-found"
    assert problem_of(served.get("/v1/runs/gone/model")).reason == "run-not-found"
    assert not [path for path in served.data_dir.rglob("*") if run["id"] in path.as_posix() and path.is_file()]
    again = served.run(name="gone")
    served.kill()
    served.start()
    assert [one["id"] for one in served.get("/v1/runs").json()["runs"]] == [again["id"]]
    assert of_answers(served) == before


def test_a_deleted_client_leaves_its_bytes_and_its_name_in_the_rounds(serve: Callable[..., Served]) -> None:
    """The deletion outlives a restart, and cannot be asked for by a reader."""
    served = serve()
    served.run(name="night")
    asyncio.run(whole_run(served))
    before = served.get("/v1/runs/night/ledger?sums=client").json()["rows"]
    name = next(row["client"] for row in before if row["client"])
    attended = served.get("/v1/runs/night/attendance").json()
    url = f"{served.url}/v1/clients/{name}/record"
    reader = httpx.post(f"{served.url}/v1/clients", json={"invite": served.invite(role="reader")}).json()["token"]
    refused = httpx.delete(url, headers={"authorization": f"Bearer {reader}"})
    assert problem_of(refused).reason == "not-allowed"
    with Coordinator(served.url, served.operator["authorization"].partition(" ")[2]) as operator:
        operator.delete_client(name)
        assert name not in {one.client for one in operator.clients()}
    assert problem_of(httpx.delete(url, headers=served.operator)).reason == "not-found"
    served.kill()
    served.start()
    assert name not in {one["client"] for one in served.get("/v1/clients").json()["clients"]}
    assert served.get("/v1/runs/night/ledger?sums=client").json()["rows"] == before
    assert served.get("/v1/runs/night/attendance").json() == attended
    assert f"DELETE /v1/clients/{name}" not in served.get("/audit.json").text
    assert f"deleted client {name}" in served.get("/audit.json").text
