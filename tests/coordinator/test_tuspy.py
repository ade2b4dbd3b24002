"""A client that others wrote, tuspy, uploads a part; what it knows of tus 1.0 is what it finds."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import Callable

import httpx
import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed
from tusclient.uploader import Uploader

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, model
from thinwire.protocol.encoding import decode_message
from thinwire.protocol.messages import AnswerMessage, Problem, VerdictMessage

CHUNK = 50_000


async def performed(served: Served, http: httpx.AsyncClient) -> tuple[NumpyClient, str, bytes]:
    client = NumpyClient(http, "client-00")
    await client.enrol(served.invite())
    message = await client.register()
    assert message is not None
    data, _ = client.perform(await client.fetch(message))
    return client, message.task, data


def uploader(served: Served, client: NumpyClient, task: str, data: bytes, *, digest: str | None = None) -> Uploader:
    foreign = TusClient(f"{served.url}/v1/uploads", headers=client.auth)
    metadata = {"task": task, "digest": digest or hashlib.sha256(data).hexdigest()}
    made: Uploader = foreign.uploader(
        file_stream=io.BytesIO(data), chunk_size=CHUNK, metadata=metadata, upload_checksum=True
    )
    return made


async def verdict(client: NumpyClient, task: str, upload: str) -> str:
    reply = await client.send(f"/v1/tasks/{task}/answer", AnswerMessage(examples=1, upload=upload))
    return decode_message(VerdictMessage, reply.content).verdict


def test_its_upload_is_an_answer_also_across_a_kill(serve: Callable[..., Served]) -> None:
    served = serve()
    run = served.run(model(20_000), rounds=1, cohort=1, evaluate=False)["id"]

    async def upload() -> str:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client, task, data = await performed(served, http)
            first = uploader(served, client, task, data)
            first.upload(stop_at=2 * CHUNK)
            served.kill()
            served.start()
            second = uploader(served, client, task, data)
            second.set_url(first.url)
            second.offset = second.get_offset()
            assert second.offset == 2 * CHUNK
            second.upload()
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client.http = http
            return await verdict(client, task, str(first.url).rsplit("/", 1)[1])

    assert asyncio.run(upload()) == "accepted"
    assert served.get(f"/v1/runs/{run}/metrics").json()["exchanges"][0]["answers"] == 1
    # What its kill interrupted was told from what it sent in pieces of its own accord.
    rows = served.get(f"/v1/runs/{run}/ledger").json()["rows"]
    assert sum(row["resumed_bytes"] for row in rows if row["kind"] == "answer") == 2 * CHUNK


def test_a_wrong_checksum_leaves_the_upload_as_it_was(served: Served) -> None:
    served.run(model(20_000), rounds=1, cohort=1, evaluate=False)

    async def upload() -> str:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client, task, data = await performed(served, http)
            foreign = uploader(served, client, task, data)
            foreign.upload(stop_at=CHUNK)
            headers = {
                **client.auth, "tus-resumable": "1.0.0", "upload-offset": str(CHUNK),
                "content-type": "application/offset+octet-stream",
                "upload-checksum": f"sha256 {base64.b64encode(hashlib.sha256(b'others').digest()).decode()}",
            }  # fmt: skip
            refused = await http.patch(foreign.url, content=b"damaged", headers=headers)
            assert refused.status_code == 460
            assert decode_message(Problem, refused.content, "application/json").reason == "checksum-mismatch"
            assert foreign.get_offset() == CHUNK
            for wrong in ("md5 AAAA", "sha1 not*base64"):
                answer = await http.patch(foreign.url, content=b"x", headers={**headers, "upload-checksum": wrong})
                assert decode_message(Problem, answer.content, "application/json").reason == "bad-request"
            assert foreign.get_offset() == CHUNK
            foreign.upload()
            return await verdict(client, task, str(foreign.url).rsplit("/", 1)[1])

    assert asyncio.run(upload()) == "accepted"


def test_what_is_offered_is_said_and_what_is_given_up_is_gone(served: Served) -> None:
    served.run(model(20_000), rounds=1, cohort=1, evaluate=False)

    async def upload() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client, task, data = await performed(served, http)
            options = (await http.options("/v1/uploads")).headers
            assert options["tus-extension"].split(",") == ["creation", "checksum", "expiration", "termination"]
            assert options["tus-checksum-algorithm"] == "sha1,sha256"
            foreign = uploader(served, client, task, data)
            foreign.upload(stop_at=CHUNK)
            gone = await http.delete(foreign.url, headers={**client.auth, "tus-resumable": "1.0.0"})
            assert gone.status_code == 204
            with pytest.raises(TusUploadFailed):
                foreign.upload()

    asyncio.run(upload())
