"""Resumable uploads: no byte that was received is asked for again, across cuts and restarts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, model
from thinwire.protocol.encoding import decode_message
from thinwire.protocol.messages import Problem, VerdictMessage

TUS = {"tus-resumable": "1.0.0"}
OFFSET = {"content-type": "application/offset+octet-stream"}


async def performed(served: Served, http: httpx.AsyncClient) -> tuple[NumpyClient, str, bytes]:
    client = NumpyClient(http, "client-00")
    await client.enrol(served.invite())
    message = await client.register()
    assert message is not None
    data, _ = client.perform(await client.fetch(message))
    return client, message.task, data


def cut_patch(served: Served, client: NumpyClient, location: str, offset: int, data: bytes, sent: int) -> None:
    """A PATCH whose connection dies after so many bytes of its body."""
    head = (
        f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {client.token}\r\n"
        f"Tus-Resumable: 1.0.0\r\n"
        f"Upload-Offset: {offset}\r\nContent-Type: {OFFSET['content-type']}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port)) as raw:
        raw.sendall(head.encode() + data[:sent])


async def offset_of(http: httpx.AsyncClient, client: NumpyClient, location: str) -> int:
    response = await http.head(location, headers={**client.auth, **TUS})
    assert response.status_code == 200
    return int(response.headers["upload-offset"])


def test_a_cut_upload_goes_on_where_it_stopped_even_after_kills(serve: Callable[..., Served]) -> None:
    served = serve()
    run = served.run(model(20_000), rounds=1, cohort=1, evaluate=False)["id"]

    async def upload() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client, task, data = await performed(served, http)
            location = (await client.create_upload(task, data)).headers["location"]
            assert (await client.create_upload(task, data)).headers["location"] == location
            at = 0
            for cut in (1, 1_000, 50_000):
                cut_patch(served, client, location, at, data[at:], cut)
                wanted = at + cut
                for _ in range(1000):  # the coordinator reads what arrived before the cut
                    at = int((served.data_dir / "uploads" / location.rsplit("/", 1)[1]).stat().st_size)
                    if at == wanted:
                        break
                    await asyncio.sleep(0.005)
                assert await offset_of(http, client, location) == wanted
            served.kill()
            served.start()
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client.http = http
            assert await offset_of(http, client, location) == at
            wrong = await http.patch(
                location, content=b"x", headers={**client.auth, **TUS, **OFFSET, "upload-offset": "0"}
            )
            assert decode_message(Problem, wrong.content, "application/json").reason == "upload-offset"
            upload_id = location.rsplit("/", 1)[1]
            early = await client.send(f"/v1/tasks/{task}/answer", _answer(upload_id))
            assert decode_message(Problem, early.content).reason == "upload-incomplete"
            rest = await http.patch(
                location, content=data[at:], headers={**client.auth, **TUS, **OFFSET, "upload-offset": str(at)}
            )
            assert rest.status_code == 204
            assert int(rest.headers["upload-offset"]) == len(data)
            reply = await client.send(f"/v1/tasks/{task}/answer", _answer(upload_id))
            assert decode_message(VerdictMessage, reply.content).verdict == "accepted"

    asyncio.run(upload())
    metrics = served.get(f"/v1/runs/{run}/metrics").json()["exchanges"]
    assert metrics[0]["answers"] == 1
    assert list((served.data_dir / "uploads").iterdir()) == []


def _answer(upload: str) -> Any:
    from thinwire.protocol.messages import AnswerMessage

    return AnswerMessage(examples=1, upload=upload)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tus-resumable": "0.2.2"}, "tus-version"),
        ({"upload-length": "-1"}, "bad-request"),
        ({"upload-length": "99999999999"}, "upload-too-large"),
        ({"upload-metadata": "task !"}, "bad-request"),
        ({"upload-metadata": "task eA=="}, "bad-request"),
        ({"upload-metadata": "task eA==,digest " + "A" * 43 + "="}, "task-not-found"),
    ],
)
def test_creation_is_checked(served: Served, change: dict[str, str], reason: str) -> None:
    served.run(cohort=1)

    async def create() -> Problem:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client, task, data = await performed(served, http)
            import base64
            import hashlib

            digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
            headers = {
                **client.auth, **TUS, "upload-length": str(len(data)),
                "upload-metadata": f"task {base64.b64encode(task.encode()).decode()},digest {digest}", **change,
            }  # fmt: skip
            response = await http.post("/v1/uploads", headers=headers)
            assert response.headers["tus-resumable"] == "1.0.0"
            return decode_message(Problem, response.content, response.headers["content-type"])

    assert asyncio.run(create()).reason == reason


def test_other_bytes_than_announced_are_told_apart(served: Served) -> None:
    served.run(cohort=1)

    async def upload() -> list[str]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client, task, data = await performed(served, http)
            location = (await client.create_upload(task, data)).headers["location"]
            forged = bytes(reversed(data))
            headers = {**client.auth, **TUS, **OFFSET, "upload-offset": "0"}
            too_many = await http.patch(location, content=forged + b"x", headers=headers)
            assert (await http.patch(location, content=forged, headers=headers)).status_code == 204
            answered = await client.send(f"/v1/tasks/{task}/answer", _answer(location.rsplit("/", 1)[1]))
            gone = await http.head(location, headers={**client.auth, **TUS})
            assert gone.status_code == 404
            # The task is still open: the right bytes are taken.
            client.through_upload = True
            reply = await client.answer(task, data, 1)
            return [
                decode_message(Problem, too_many.content, "application/json").reason,
                decode_message(Problem, answered.content).reason,
                decode_message(VerdictMessage, reply.content).verdict,
            ]

    assert asyncio.run(upload()) == ["upload-too-large", "digest-mismatch", "accepted"]


def test_an_upload_is_seen_by_its_client_alone_and_can_be_given_up(served: Served) -> None:
    served.run(cohort=1)

    async def upload() -> list[int]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client, task, data = await performed(served, http)
            location = (await client.create_upload(task, data)).headers["location"]
            other = NumpyClient(http, "other")
            await other.enrol(served.invite())
            statuses = [
                (await http.head(location, headers={**other.auth, **TUS})).status_code,
                (await http.delete(location, headers={**client.auth, **TUS})).status_code,
                (await http.head(location, headers={**client.auth, **TUS})).status_code,
            ]
            options = await http.options("/v1/uploads")
            assert options.headers["tus-version"] == "1.0.0"
            return statuses

    assert asyncio.run(upload()) == [404, 204, 404]
