"""What a peer sees: negotiation, one shape for every error, access, long polls, ranges."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import msgpack
import pytest

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, model
from thinwire.protocol.encoding import JSON, MSGPACK, decode_message
from thinwire.protocol.messages import Problem, RunView, VerdictMessage
from thinwire.protocol.reasons import REASONS


def problem_of(response: httpx.Response) -> Problem:
    problem = decode_message(Problem, response.content, response.headers["content-type"])
    assert response.status_code == REASONS[problem.reason].status
    assert problem.retry == REASONS[problem.reason].retry
    return problem


def enrolled(served: Served, name: str = "client-00", **wanted: Any) -> dict[str, str]:
    response = httpx.post(f"{served.url}/v1/clients", json={"invite": served.invite(**wanted), "name": name})
    assert response.status_code == 201
    return {"authorization": f"Bearer {response.json()['token']}"}


@pytest.mark.parametrize(
    ("method", "path", "options", "reason"),
    [
        ("GET", "/nothing", {}, "not-found"),
        ("GET", "/v1/runs/", {}, "not-found"),
        ("PUT", "/v1/runs", {}, "method-not-allowed"),
        ("GET", "/v1/runs/nothing", {}, "run-not-found"),
        ("POST", "/v1/runs", {"json": {}}, "token-missing"),
        ("POST", "/v1/clients", {"json": {"invite": "x"}}, "invite-invalid"),
        ("POST", "/v1/clients", {"json": {"invite": "x", "admin": True}}, "bad-message"),
        ("POST", "/v1/clients", {"content": b"{", "headers": {"content-type": JSON}}, "bad-request"),
        ("POST", "/v1/clients", {"content": b"\xc1", "headers": {"content-type": MSGPACK}}, "bad-request"),
        (
            "POST",
            "/v1/clients",
            {"content": b"<a/>", "headers": {"content-type": "text/xml"}},
            "unsupported-media-type",
        ),
        ("POST", "/v1/clients", {"json": {"invite": "x"}, "headers": {"accept": "image/png"}}, "not-acceptable"),
        ("POST", "/v1/clients", {"content": b"0" * (1 << 18) + b"0"}, "message-too-large"),
        ("POST", "/v1/registrations", {"json": {}}, "token-missing"),
        ("POST", "/v1/registrations", {"json": {}, "headers": {"authorization": "Bearer x"}}, "token-invalid"),
        ("POST", "/v1/registrations?wait_s=601", {"json": {}}, "bad-message"),
        ("GET", f"/v1/plans/{'0' * 64}", {}, "token-missing"),
        ("GET", "/v1/payloads/..%2f..%2foperator.token", {}, "not-found"),
    ],
)
def test_every_error_is_a_problem(served: Served, method: str, path: str, options: dict[str, Any], reason: str) -> None:
    response = httpx.request(method, f"{served.url}{path}", **options)
    assert problem_of(response).reason == reason
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("sent", "accept", "got"),
    [
        (MSGPACK, None, MSGPACK),
        (MSGPACK, "*/*", MSGPACK),
        (MSGPACK, JSON, JSON),
        (JSON, None, JSON),
        (JSON, MSGPACK, MSGPACK),
        (JSON, "text/html, application/*;q=0.8", JSON),
    ],
)
def test_the_response_is_what_was_accepted_or_sent(served: Served, sent: str, accept: str | None, got: str) -> None:
    body = {"group": "g"}
    content = msgpack.packb(body) if sent == MSGPACK else json.dumps(body).encode()
    client = httpx.Client()
    del client.headers["accept"]
    headers = {**served.operator, "content-type": sent, **({} if accept is None else {"accept": accept})}
    with client:
        response = client.post(f"{served.url}/v1/invites", content=content, headers=headers)
    assert response.status_code == 201
    assert response.headers["content-type"] == got
    plain = msgpack.unpackb(response.content) if got == MSGPACK else response.json()
    assert plain["group"] == "g"


def test_responses_carry_no_needless_header(served: Served) -> None:
    client = enrolled(served)
    response = httpx.post(f"{served.url}/v1/registrations", json={}, headers=client)
    assert response.status_code == 204
    assert set(response.headers) == {"retry-after"}
    response = served.get("/v1/runs")
    assert set(response.headers) == {"content-type", "content-length"}


def test_an_invite_counts_its_uses(served: Served) -> None:
    invite = served.invite(uses=1)
    url = f"{served.url}/v1/clients"
    first = httpx.post(url, json={"invite": invite, "name": "one"})
    assert first.status_code == 201
    # The answer was lost: the same client asks again, and only the newer token works.
    again = httpx.post(url, json={"invite": invite, "name": "one"})
    assert again.status_code == 201
    tokens = [response.json()["token"] for response in (first, again)]
    replies = [
        httpx.post(f"{served.url}/v1/registrations", json={}, headers={"authorization": f"Bearer {token}"})
        for token in tokens
    ]
    assert problem_of(replies[0]).reason == "token-invalid"
    assert replies[1].status_code == 204
    assert problem_of(httpx.post(url, json={"invite": invite, "name": "one"})).reason == "name-taken"
    assert problem_of(httpx.post(url, json={"invite": invite, "name": "two"})).reason == "invite-invalid"
    expired = served.invite(expires_in_s=1e-9)
    assert problem_of(httpx.post(url, json={"invite": expired})).reason == "invite-invalid"


def test_a_client_is_no_operator(served: Served) -> None:
    client = enrolled(served)
    for method, path in [
        ("POST", "/v1/invites"),
        ("GET", "/v1/clients"),
        ("DELETE", "/v1/clients/x"),
        ("POST", "/v1/runs"),
    ]:
        response = httpx.request(method, f"{served.url}{path}", headers=client)
        assert problem_of(response).reason == "not-allowed"


def test_revocation_takes_effect_at_once(served: Served) -> None:
    served.run(cohort=2)
    client = enrolled(served)

    async def parked() -> httpx.Response:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            poll = asyncio.create_task(http.post("/v1/registrations?wait_s=30", json={}, headers=client))
            while b"thinwire_parked_clients 1.0" not in (await http.get("/metrics")).content:
                assert not poll.done()
            removed = await http.delete("/v1/clients/client-00", headers=served.operator)
            assert removed.status_code == 204
            return await poll

    assert problem_of(asyncio.run(parked())).reason == "token-invalid"
    assert problem_of(httpx.get(f"{served.url}/v1/plans/{'0' * 64}", headers=client)).reason == "token-invalid"
    listed = served.get("/v1/clients").json()["clients"]
    assert [(one["client"], one["revoked"]) for one in listed] == [("client-00", True)]


def test_a_newer_poll_replaces_the_parked_one(served: Served) -> None:
    client = enrolled(served)

    async def polls() -> list[int]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            first = asyncio.create_task(http.post("/v1/registrations?wait_s=60", json={}, headers=client))
            while b"thinwire_parked_clients 1.0" not in (await http.get("/metrics")).content:
                assert not first.done()
            second = await http.post("/v1/registrations", json={}, headers=client)
            return [(await first).status_code, second.status_code]

    assert asyncio.run(polls()) == [204, 204]


def test_a_client_that_has_ended_is_not_asked_and_the_run_says_what_it_waits_for(served: Served) -> None:
    client = enrolled(served)
    # Each over a connection of its own, which ends with it.
    assert httpx.post(f"{served.url}/v1/registrations", json={}, headers=client).status_code == 204
    assert httpx.get(f"{served.url}/v1/plans/{'0' * 64}", headers=client).status_code == 404
    run = served.run(cohort=1)["id"]
    with httpx.stream("GET", f"{served.url}/v1/runs/{run}/events", headers=served.operator, timeout=60) as events:
        said = next(line for line in events.iter_lines() if "is needed to begin" in line)
    view = json.loads(said.removeprefix("data: "))
    assert (view["state"], view["reason"]) == ("pending", "1 client is needed to begin; none there")
    task = httpx.post(f"{served.url}/v1/registrations?wait_s=20", json={}, headers=client).json()
    assert task["run"] == run
    view = served.get(f"/v1/runs/{run}").json()
    assert (view["state"], view.get("reason"), view["waits_for"]) == ("running", None, ["client-00"])


def test_asked_again_a_client_gets_the_same_task(served: Served) -> None:
    served.run(model(50_000), cohort=1)
    client = enrolled(served)
    replies = [httpx.post(f"{served.url}/v1/registrations?wait_s=20", json={}, headers=client).json() for _ in range(2)]
    assert replies[0] == replies[1]
    assert all("inline" not in part for part in replies[0]["parts"])  # JSON names digests


def test_another_model_is_a_mismatch(served: Served) -> None:
    served.run(cohort=1)
    client = enrolled(served)
    response = httpx.post(f"{served.url}/v1/registrations", json={"spec": "00" * 8}, headers=client)
    assert problem_of(response).reason == "model-mismatch"


def test_files_have_tags_and_ranges(served: Served) -> None:
    served.run(model(50_000), cohort=1)
    client = enrolled(served)
    task = httpx.post(f"{served.url}/v1/registrations?wait_s=20", json={}, headers=client).json()
    part = task["parts"][0]
    url = f"{served.url}/v1/payloads/{part['digest']}"
    whole = httpx.get(url, headers=client)
    assert whole.status_code == 200
    assert len(whole.content) == part["size"]
    tag = whole.headers["etag"]
    assert tag == f'"{part["digest"]}"'
    unchanged = httpx.get(url, headers={**client, "if-none-match": f'"other", {tag}'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    rest = httpx.get(url, headers={**client, "range": "bytes=1000-", "if-range": tag})
    assert rest.status_code == 206
    assert rest.content == whole.content[1000:]
    beyond = httpx.get(url, headers={**client, "range": f"bytes={part['size']}-"})
    assert beyond.status_code == 416
    plan = httpx.get(f"{served.url}/v1/plans/{task['plan']}", headers=client)
    assert plan.headers["content-type"] == MSGPACK
    again = httpx.get(
        f"{served.url}/v1/plans/{task['plan']}", headers={**client, "if-none-match": plan.headers["etag"]}
    )
    assert again.status_code == 304
    readable = httpx.get(f"{served.url}/v1/plans/{task['plan']}", headers={**client, "accept": JSON})
    assert readable.json()["method"] == "toy"
    # Nobody else may read it.
    stranger = enrolled(served, "stranger", group="others")
    assert problem_of(httpx.get(url, headers=stranger)).reason == "payload-not-found"
    assert problem_of(httpx.get(url)).reason == "token-missing"


def test_public_payloads_need_no_token(served: Served) -> None:
    served.run(model(50_000), cohort=1, payloads="public")
    client = enrolled(served)
    task = httpx.post(f"{served.url}/v1/registrations?wait_s=20", json={}, headers=client).json()
    response = httpx.get(f"{served.url}/v1/payloads/{task['parts'][0]['digest']}")
    assert response.status_code == 200
    assert response.headers["cache-control"].startswith("public")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": "nothing"}, "nothing"),
        ({"settings": {"stepps": 1}}, "stepps"),
        ({"uplink": "gzip"}, "gzip"),
        ({"chains": {"nothing": {}}}, "nothing"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(served: Served, settings: dict[str, Any], says: str) -> None:
    served.run(name="good")
    stored = next((served.data_dir / "models").iterdir()).name
    response = served.post("/v1/runs", {"settings": {"method": "toy", **settings}, "model": stored})
    problem = problem_of(response)
    assert problem.reason == "run-invalid"
    assert says in problem.detail


def test_a_model_must_be_one(served: Served) -> None:
    response = httpx.post(f"{served.url}/v1/models", content=b"not a model", headers=served.operator)
    assert problem_of(response).reason == "run-invalid"
    assert list((served.data_dir / "models").iterdir()) == []
    response = served.post("/v1/runs", {"settings": {"method": "toy"}, "model": "00" * 32})
    assert problem_of(response).reason == "run-invalid"


def test_two_runs_cannot_share_a_name(served: Served) -> None:
    served.run()
    stored = next((served.data_dir / "models").iterdir()).name
    response = served.post("/v1/runs", {"settings": {"method": "toy"}, "model": stored})
    assert problem_of(response).reason == "run-exists"


@pytest.mark.parametrize("reader", [True, False])
def test_reads_from_elsewhere_need_a_token(serve: Any, reader: bool) -> None:
    served = serve(public_read=str(reader).lower())
    response = httpx.get(f"{served.url}/v1/runs", headers={"via": "1.1 elsewhere"})
    if reader:
        assert response.json() == {"runs": []}
    else:
        assert problem_of(response).reason == "token-missing"
        assert served.get("/v1/runs").json() == {"runs": []}


def test_events_tell_what_happens(served: Served) -> None:
    run = served.run(rounds=1, cohort=1)["id"]

    async def watch() -> list[tuple[str, dict[str, Any]]]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client = NumpyClient(http, "client-00")
            await client.enrol(served.invite())
            found: list[tuple[str, dict[str, Any]]] = []
            async with http.stream("GET", f"/v1/runs/{run}/events") as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                working = asyncio.create_task(client.work())
                event = ""
                async for line in response.aiter_lines():
                    if line.startswith("event: "):
                        event = line[7:]
                    if line.startswith("data: "):
                        found.append((event, json.loads(line[6:])))
            await working
            return found

    events = asyncio.run(watch())
    assert events[0][0] == "run"
    assert RunView.model_validate_json(json.dumps(events[-1][1])).state == "finished"
    assert [data["exchange"] for event, data in events if event == "exchange"] == [0, 1]
    assert sum(event == "answer" for event, _ in events) == 2


def test_the_document_describes_every_message_and_problem(served: Served) -> None:
    document = httpx.get(f"{served.url}/openapi.json").json()
    assert httpx.get(f"{served.url}/docs").status_code == 200
    schemas = document["components"]["schemas"]
    text = json.dumps(document["paths"])
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= schemas.keys()
    assert {"Registration", "TaskMessage", "AnswerMessage", "VerdictMessage", "Problem"} <= referred


class TestAnswers:
    """Wrong answers, each with its reason."""

    async def _task(self, served: Served, http: httpx.AsyncClient) -> tuple[NumpyClient, str, bytes, int]:
        client = NumpyClient(http, "client-00")
        await client.enrol(served.invite())
        message = await client.register()
        assert message is not None
        data, examples = client.perform(await client.fetch(message))
        return client, message.task, data, examples

    @pytest.mark.parametrize(
        ("spoil", "examples", "reason"),
        [
            (lambda data: data[:-1], 1, "payload-invalid"),
            (lambda data: b"\xc1" + data[1:], 1, "payload-invalid"),
            (lambda data: b"", 1, "payload-invalid"),
            (lambda data: data, 0, "answer-invalid"),
        ],
    )
    def test_what_does_not_fit_is_refused_for_good(
        self, served: Served, spoil: Any, examples: int, reason: str
    ) -> None:
        served.run(cohort=1)

        async def answers() -> tuple[list[Problem], str | None]:
            async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
                client, task, data, _ = await self._task(served, http)
                wrong = [problem_of(await client.answer(task, spoil(data), examples)) for _ in range(2)]
                following = await client.register()
                return wrong, None if following is None else following.task

        (first, again), following = asyncio.run(answers())
        assert first.reason == reason
        assert again == first
        assert following is not None  # nobody else is there: the next offer asks it again

    def test_values_beyond_the_bound_are_refused(self, served: Served) -> None:
        served.run(cohort=1, **{"max-value": 1e-6})

        async def answers() -> Problem:
            async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
                client, task, data, examples = await self._task(served, http)
                return problem_of(await client.answer(task, data, examples))

        problem = asyncio.run(answers())
        assert problem.reason == "answer-invalid"
        assert "weight" in problem.detail or "bias" in problem.detail

    def test_foreign_and_unknown_tasks_are_not_found(self, served: Served) -> None:
        served.run(cohort=1)

        async def answers() -> list[str]:
            async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
                _, task, data, _ = await self._task(served, http)
                other = NumpyClient(http, "other")
                await other.enrol(served.invite())
                return [problem_of(await other.answer(name, data, 1)).reason for name in (task, "abcdefgh", "../x")]

        assert asyncio.run(answers()) == ["task-not-found", "task-not-found", "not-found"]

    def test_a_repeated_answer_counts_once(self, served: Served) -> None:
        run = served.run(cohort=2)["id"]
        enrolled(served, "client-01")

        async def answers() -> list[str]:
            async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
                other = NumpyClient(http, "client-02")
                await other.enrol(served.invite())
                waiting = asyncio.create_task(other.register())
                client, task, data, examples = await self._task(served, http)
                await waiting
                replies = await asyncio.gather(*(client.answer(task, data, examples) for _ in range(3)))
                return [decode_message(VerdictMessage, reply.content).verdict for reply in replies]

        assert set(asyncio.run(answers())) <= {"accepted", "duplicate"}
        assert served.get(f"/v1/runs/{run}").json()["answers"] == 1
