"""Who may do what, from when on and until when: invites, roles, new tokens, revocation, what is nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, model
from tests.coordinator.test_endpoints import enrolled, problem_of
from tests.coordinator.test_uploads import OFFSET, TUS
from thinwire.coordinator.objects.secret_files import fresh_secret, operator_token, write_token
from thinwire.coordinator.settings import ServeSettings
from thinwire.protocol.messages import AnswerMessage


def _reason(response: httpx.Response) -> str:
    return problem_of(response).reason


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _rotate(served: Served, name: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{served.url}/v1/clients/{name}/token", headers=headers)


def _plan(served: Served, headers: dict[str, str]) -> str:
    """What a token is worth: `plan-not-found` is what a client may be told."""
    return _reason(httpx.get(f"{served.url}/v1/plans/{'0' * 64}", headers=headers))


def test_secrets_are_of_128_bits_at_least() -> None:
    secrets = {fresh_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22,}", secret) for secret in secrets)  # 22 letters of 6 bits


def test_no_secret_is_stored_as_it_is(standing: Served) -> None:
    invite = standing.invite()
    token = httpx.post(f"{standing.url}/v1/clients", json={"invite": invite, "name": "hashed"}).json()["token"]
    for path in standing.data_dir.rglob("*"):
        if path.is_file() and path.name != "operator.token":
            content = path.read_bytes()
            assert invite.encode() not in content
            assert token.encode() not in content
    database = b"".join(path.read_bytes() for path in standing.data_dir.glob("thinwire.db*"))
    assert hashlib.sha256(token.encode()).digest() in database


def test_one_use_is_one_client_however_many_ask_at_once(standing: Served) -> None:
    """Also at the same instant, under other names."""
    invite = standing.invite(uses=3)

    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=standing.url, timeout=60) as http:
            bodies = [{"invite": invite, "name": f"racer-{number}"} for number in range(40)]
            replies = await asyncio.gather(*(http.post("/v1/clients", json=body) for body in bodies))
            return [reply.status_code for reply in replies]

    statuses = asyncio.run(ask())
    assert statuses.count(201) == 3
    assert statuses.count(403) == 37


def test_an_invite_gives_its_group_and_role_and_ends(standing: Served) -> None:
    reply = httpx.post(f"{standing.url}/v1/clients", json={"invite": standing.invite(group="ward", role="evaluator")})
    assert (reply.json()["group"], reply.json()["role"]) == ("ward", "evaluator")
    late = standing.invite(expires_in_s=1e-6)
    assert _reason(httpx.post(f"{standing.url}/v1/clients", json={"invite": late})) == "invite-invalid"


def test_an_invite_is_voided_by_its_digits(standing: Served) -> None:
    def listed() -> list[dict[str, Any]]:
        return [one for one in standing.get("/v1/invites").json()["invites"] if one["group"] == "voided"]

    invite = standing.invite(group="voided", role="evaluator", uses=3)
    stays = httpx.post(f"{standing.url}/v1/clients", json={"invite": invite, "name": "stays"})
    (one,) = listed()
    assert (one["role"], one["uses_left"], len(one["invite"])) == ("evaluator", 2, 8)
    url = f"{standing.url}/v1/invites/{one['invite']}"
    assert _reason(httpx.delete(url[:-1], headers=standing.operator)) == "bad-request"
    assert httpx.delete(url, headers=standing.operator).status_code == 204
    assert _reason(httpx.delete(url, headers=standing.operator)) == "not-found"
    assert listed() == []
    assert _reason(httpx.post(f"{standing.url}/v1/clients", json={"invite": invite})) == "invite-invalid"
    assert _plan(standing, _bearer(stays.json()["token"])) == "plan-not-found"


def test_a_new_token_kills_the_old_one(standing: Served) -> None:
    old = enrolled(standing, "rotating")
    assert _plan(standing, old) == "plan-not-found"
    reply = _rotate(standing, "rotating", old)
    assert reply.status_code == 201
    new = _bearer(reply.json()["token"])
    assert _plan(standing, old) == "token-invalid"
    # The answer may have been lost: the old token is good for asking once more, and for nothing else.
    again = _bearer(_rotate(standing, "rotating", old).json()["token"])
    assert _plan(standing, new) == "token-invalid"
    assert _plan(standing, again) == "plan-not-found"
    # Used once, the new one stands alone.
    assert _reason(_rotate(standing, "rotating", old)) == "token-invalid"
    assert _reason(_rotate(standing, "rotating", enrolled(standing, "another"))) == "not-allowed"
    assert _reason(_rotate(standing, "rotating", standing.operator)) == "not-allowed"
    assert _reason(_rotate(standing, "rotating", {})) == "token-missing"


def test_tokens_survive_a_kill_and_dead_ones_stay_dead(serve: Callable[..., Served]) -> None:
    served = serve()
    old = enrolled(served, "one")
    new = _bearer(_rotate(served, "one", old).json()["token"])
    gone = enrolled(served, "two")
    invite = served.invite(uses=2)
    assert httpx.post(f"{served.url}/v1/clients", json={"invite": invite}).status_code == 201
    httpx.delete(f"{served.url}/v1/clients/two?invite=true", headers=served.operator).raise_for_status()
    operator = served.operator
    rotated = httpx.post(f"{served.url}/v1/operator/token", headers=operator)
    assert rotated.status_code == 201
    assert served.operator == _bearer(rotated.json()["token"]) != operator
    assert stat.S_IMODE((served.data_dir / "operator.token").stat().st_mode) == 0o600
    served.kill()
    served.start()
    assert _plan(served, old) == "token-invalid"
    assert _plan(served, new) == "plan-not-found"
    assert _plan(served, gone) == "token-invalid"
    assert _reason(httpx.get(f"{served.url}/v1/clients", headers=operator)) == "token-invalid"
    assert served.get("/v1/clients").status_code == 200
    uses = [httpx.post(f"{served.url}/v1/clients", json={"invite": invite}).status_code for _ in range(2)]
    assert uses == [201, 403]


def test_a_revoked_client_does_not_come_back_by_its_invite(standing: Served) -> None:
    invite = standing.invite(uses=10)
    url = f"{standing.url}/v1/clients"
    assert httpx.post(url, json={"invite": invite, "name": "leaver"}).status_code == 201
    httpx.delete(f"{url}/leaver?invite=true", headers=standing.operator).raise_for_status()
    for name in ("leaver", "under-another-name"):
        assert _reason(httpx.post(url, json={"invite": invite, "name": name})) == "invite-invalid"
    # With an invite of its own the name is free again.
    assert httpx.post(url, json={"invite": standing.invite(), "name": "leaver"}).status_code == 201
    httpx.delete(f"{url}/leaver", headers=standing.operator).raise_for_status()


def test_a_reader_by_invite_reads_and_changes_nothing(standing: Served) -> None:
    reader = enrolled(standing, "rob", role="reader")
    for path in ("/v1/runs", "/v1/clients", "/v1/invites", "/metrics"):
        assert httpx.get(f"{standing.url}{path}", headers=reader).status_code == 200, path
    for method, path in (("POST", "/v1/invites"), ("DELETE", "/v1/clients/rob"), ("POST", "/v1/models")):
        assert _reason(httpx.request(method, f"{standing.url}{path}", headers=reader, json={})) == "not-allowed", path
    # Nor does it wait for tasks that nobody would ever give it.
    assert _reason(httpx.post(f"{standing.url}/v1/registrations", headers=reader, json={})) == "not-allowed"


def test_an_operator_by_invite_does_what_operators_do_and_can_be_revoked(standing: Served) -> None:
    second = enrolled(standing, "second-operator", role="operator")
    assert httpx.get(f"{standing.url}/v1/clients", headers=second).status_code == 200
    assert httpx.post(f"{standing.url}/v1/invites", json={}, headers=second).status_code == 201
    # The token of the data folder is not in its hands.
    assert _reason(httpx.post(f"{standing.url}/v1/operator/token", headers=second)) == "not-allowed"
    httpx.delete(f"{standing.url}/v1/clients/second-operator", headers=standing.operator).raise_for_status()
    assert _reason(httpx.get(f"{standing.url}/v1/clients", headers=second)) == "token-invalid"


CHANGING = [
    ("POST", "/v1/models"), ("POST", "/v1/runs"), ("POST", "/v1/runs/x/pause"), ("POST", "/v1/runs/x/resume"),
    ("POST", "/v1/runs/x/stop"), ("POST", "/v1/invites"), ("GET", "/v1/invites"),
    ("DELETE", "/v1/invites/0011223344"), ("GET", "/v1/clients"), ("DELETE", "/v1/clients/x"),
    ("POST", "/v1/operator/token"),
]  # fmt: skip
READING = ["/v1/runs", "/v1/runs/x", "/v1/runs/x/ledger", "/v1/runs/x/metrics", "/v1/runs/x/events", "/metrics"]


@pytest.mark.parametrize("role", ["client", "evaluator", None])
def test_what_changes_anything_needs_an_operator(standing: Served, role: str | None) -> None:
    headers = {} if role is None else enrolled(standing, f"a-{role}", role=role)
    for method, path in CHANGING:
        response = httpx.request(method, f"{standing.url}{path}", headers=headers)
        assert _reason(response) == ("token-missing" if role is None else "not-allowed"), path


def test_beside_a_proxy_nothing_is_read_without_an_operator_or_for_longer_than_it_is_one(
    serve: Callable[..., Served],
) -> None:
    served = serve(trusted_proxies="127.0.0.1")
    client = enrolled(served)
    for path in READING:
        assert _reason(httpx.get(f"{served.url}{path}")) == "token-missing", path
        assert _reason(httpx.get(f"{served.url}{path}", headers=client)) == "not-allowed", path
    assert httpx.get(f"{served.url}/v1/runs", headers=served.operator).status_code == 200
    assert asyncio.run(_watch(served)) == 1


async def _watch(served: Served) -> int:
    """How many events an operator sees whose token is revoked behind the first one."""
    run = served.run(cohort=1)["id"]
    watcher, seen = enrolled(served, "watcher", role="operator"), 0
    async with (
        httpx.AsyncClient(base_url=served.url, timeout=60) as http,
        http.stream("GET", f"/v1/runs/{run}/events", headers=watcher) as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                seen += 1
                await http.delete("/v1/clients/watcher", headers=served.operator)
                await http.post(f"/v1/runs/{run}/pause", json={}, headers=served.operator)
    return seen


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "coordinator.example"])  # noqa: S104
def test_plain_http_beyond_loopback_is_asked_for_by_name(host: str) -> None:
    with pytest.raises(ValidationError, match="insecure"):
        ServeSettings(host=host)
    ServeSettings(host=host, insecure=True)
    ServeSettings(host=host, certificate=Path("c.pem"), key=Path("k.pem"))
    with pytest.raises(ValidationError, match="needs its key"):
        ServeSettings(host=host, certificate=Path("c.pem"))


def test_revocation_ends_an_upload_in_the_middle(standing: Served) -> None:
    standing.run(model(20_000), cohort=1, name="cut-short", group="uploaders")

    async def upload() -> tuple[bytes, int]:
        async with httpx.AsyncClient(base_url=standing.url, timeout=60) as http:
            client = NumpyClient(http, "uploader")
            await client.enrol(standing.invite(group="uploaders"))
            message = await client.register()
            assert message is not None
            data, _ = client.perform(await client.fetch(message))
            location = (await client.create_upload(message.task, data)).headers["location"]
            file = standing.data_dir / "uploads" / location.rsplit("/", 1)[1]
            head = (
                f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {client.token}\r\n"
                f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: {OFFSET['content-type']}\r\n"
                f"Content-Length: {len(data)}\r\n\r\n"
            )
            with socket.create_connection(("127.0.0.1", standing.port), timeout=60) as raw:
                raw.sendall(head.encode() + data[:1000])
                while file.stat().st_size < 1000:
                    await asyncio.sleep(0.01)
                await http.delete("/v1/clients/uploader", headers=standing.operator)
                assert not file.exists()
                raw.sendall(data[1000:])
                answer = raw.recv(1 << 16)
            gone = await http.head(location, headers={**client.auth, **TUS})
            return answer, gone.status_code

    answer, status = asyncio.run(upload())
    assert answer.startswith(b"HTTP/1.1 409")
    assert status == 401


@pytest.mark.parametrize("ends", ["revoked", "rotated"])
def test_a_token_that_is_worth_nothing_ends_a_download_in_the_middle(standing: Served, ends: str) -> None:
    group = f"downloaders-{ends}"
    standing.run(model(3_000_000), cohort=1, name=group, group=group, chains="plain")

    async def download() -> tuple[int, int]:
        async with httpx.AsyncClient(base_url=standing.url, timeout=60) as http:
            client = NumpyClient(http, group)
            await client.enrol(standing.invite(group=group))
            message = await client.register()
            assert message is not None
            part = message.parts[0]
            assert part.digest is not None
            assert part.size is not None
            head = (
                f"GET /v1/payloads/{part.digest.hex()} HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {client.token}\r\n\r\n"
            )
            # With little room on the way, most of the file is still to be read when the token ends.
            with socket.socket() as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
                raw.settimeout(60)
                raw.connect(("127.0.0.1", standing.port))
                raw.sendall(head.encode())
                arrived = len(raw.recv(1 << 12))
                if ends == "revoked":
                    ended = await http.delete(f"/v1/clients/{group}", headers=standing.operator)
                else:
                    ended = await http.post(f"/v1/clients/{group}/token", headers=client.auth)
                assert ended.is_success
                with contextlib.suppress(ConnectionResetError):
                    while block := raw.recv(1 << 20):
                        arrived += len(block)
            return arrived, part.size

    arrived, size = asyncio.run(download())
    assert 0 < arrived < size


def test_an_answer_is_nobody_elses(standing: Served) -> None:
    """Neither the upload of an answer nor the payload of a counted one has an address."""
    run = standing.run(model(20_000), cohort=2, name="secretive", group="secretive", payloads="public")["id"]

    async def answer() -> None:
        async with httpx.AsyncClient(base_url=standing.url, timeout=60) as http:
            clients = [NumpyClient(http, name, through_upload=True) for name in ("owner", "curious")]
            for client in clients:
                await client.enrol(standing.invite(group="secretive"))
            owner, curious = clients
            messages = await asyncio.gather(*(client.register() for client in clients))
            assert messages[0] is not None
            data, examples = owner.perform(await owner.fetch(messages[0]))
            task, digest = messages[0].task, hashlib.sha256(data).hexdigest()
            location = (await owner.create_upload(task, data)).headers["location"]
            everybody = (curious.auth, standing.operator, {})
            for headers in everybody:
                for method in ("HEAD", "PATCH", "DELETE", "GET"):
                    reply = await http.request(
                        method, location, headers={**headers, **TUS, **OFFSET, "upload-offset": "0"}
                    )
                    assert reply.status_code in (401, 404, 405), (method, reply.status_code)
            stolen = AnswerMessage(examples=1, upload=location.rsplit("/", 1)[1])
            assert _reason(await curious.send(f"/v1/tasks/{task}/answer", stolen)) == "task-not-found"
            foreign = await curious.create_upload(task, data)
            assert _reason(foreign) == "task-not-found"
            assert (await owner.answer(task, data, examples)).status_code == 200
            for headers in (owner.auth, *everybody):
                reply = await http.get(f"/v1/payloads/{digest}", headers=headers)
                assert reply.status_code in (401, 404)

    asyncio.run(answer())
    assert standing.get(f"/v1/runs/{run}").json()["answers"] == 1


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o660])
def test_the_operators_file_is_closed_to_others(tmp_path: Path, mode: int) -> None:
    token = operator_token(tmp_path)
    path = tmp_path / "operator.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(mode)
    assert operator_token(tmp_path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("")  # torn at the first start
    assert len(operator_token(tmp_path)) >= 22


def test_a_token_replaces_what_lay_there_open(tmp_path: Path) -> None:
    path = tmp_path / "operator.token"
    path.write_text("old")
    path.chmod(0o666)
    write_token(tmp_path, "new")
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
