"""Webhooks: every event arrives, signed, in its order, whatever becomes of receiver and coordinator."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.coordinator.served import Served
from tests.receiver import Received, Receiver, receiving
from thinwire.coordinator.serve.delivery import LONGEST_S, wait_s
from thinwire.coordinator.serve.posting import secret_text, signature

TEXT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
REFUSED = [
    ("http://desk.example/", "only https"),
    ("http://10.0.0.1/", "only https"),
    ("file:///etc/passwd", "write https://HOST/PATH"),
    ("https://ann:secret@desk.example/", "no name or password"),
    ("https://desk.example:99999/", "not a URL"),
    ("https://desk.example/a b", "no spaces"),
]


def _add(served: Served, url: str, **wanted: Any) -> dict[str, Any]:
    made = served.post("/v1/webhooks", {"url": url, **wanted})
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


def _listed(served: Served) -> dict[str, Any]:
    (found,) = served.get("/v1/webhooks").json()["webhooks"]
    return dict(found)


def _is_signed(received: Received, secret: str) -> bool:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    name, at = received.headers["webhook-id"], int(received.headers["webhook-timestamp"])
    return received.headers["webhook-signature"] == signature(key, name, at, received.body)


def test_the_signature_is_that_of_the_standard() -> None:
    """The vector that its reference libraries are tested with."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert secret_text(key) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_pause_doubles_up_to_an_hour() -> None:
    assert [wait_s(failures) for failures in (1, 2, 3, 12, 13, 900)] == [1, 2, 4, 2048, LONGEST_S, LONGEST_S]


def test_nothing_is_lost_where_receiver_and_coordinator_fail(serve: Callable[..., Served]) -> None:
    served, statuses = serve(), iter([503])
    receiver = Receiver(answer=lambda _: next(statuses, 204))
    with receiving(receiver):
        hook = _add(served, f"{receiver.url}/hear?team=7", kinds=["run"])
        run = served.run(name="told")
        first, again = receiver.next(), receiver.next()
        # The one that was refused comes once more, under the same name.
        assert first.headers["webhook-id"] == again.headers["webhook-id"]
        body = json.loads(again.body)
        assert first.path == "/hear?team=7"
        assert (body["kind"], body["run"]) == ("run", {"id": run["id"], "name": "told"})
        assert (body["data"]["state"], body["webhook"]) == ("pending", hook["webhook"])
        assert again.headers["webhook-id"] == f"{hook['webhook']}-{body['event']}"
        assert all(_is_signed(one, hook["secret"]) for one in (first, again))
        assert not _is_signed(again, secret_text(bytes(32)))
    # Nobody listens; what happens meanwhile lies in the rows, over a death of the coordinator too.
    served.post("/v1/runs/told/stop", {})
    served.kill()
    served.start()
    with receiving(receiver):
        assert served.post(f"/v1/webhooks/{hook['webhook']}/test", {}).json() == {"taken": True}
        seen = [json.loads((found := receiver.next()).body)]
        while not {"test", "finished"} <= {one["data"].get("state", one["kind"]) for one in seen}:
            found = receiver.next()
            assert _is_signed(found, hook["secret"])
            seen.append(json.loads(found.body))
        assert [one["event"] for one in seen if one["kind"] == "test"] == [None]
        assert min(one["event"] for one in seen if one["kind"] == "run") == body["event"] + 1
        assert httpx.delete(f"{served.url}/v1/webhooks/{hook['webhook']}", headers=served.operator).status_code == 204
        served.run(name="untold")
    while not receiver.received.empty():
        assert json.loads(receiver.next().body)["run"]["name"] == "told"
    assert served.get("/v1/webhooks").json() == {"webhooks": []}
    assert hook["secret"] not in served.log


def test_only_what_was_asked_for_is_told(standing: Served) -> None:
    with receiving(Receiver()) as receiver:
        hook = _add(standing, receiver.url, run="wanted")
        for name in ("other", "wanted"):
            standing.run(name=name, group="nobody")
            standing.post(f"/v1/runs/{name}/stop", {})
        found = [json.loads(receiver.next().body)]
        while found[-1]["data"]["state"] != "finished":
            found.append(json.loads(receiver.next().body))
        assert {one["run"]["name"] for one in found} == {"wanted"}
        httpx.delete(f"{standing.url}/v1/webhooks/{hook['webhook']}", headers=standing.operator)


def test_no_redirect_is_followed_and_what_is_wrong_is_said(standing: Served) -> None:
    with receiving(Receiver(answer=lambda _: 302)) as receiver:
        hook = _add(standing, receiver.url)
        tested = standing.post(f"/v1/webhooks/{hook['webhook']}/test", {}).json()
        assert tested == {"taken": False, "said": "it answered 302"}
        assert receiver.next().path == "/"
        assert receiver.received.empty()
        assert "secret" not in _listed(standing)
    tested = standing.post(f"/v1/webhooks/{hook['webhook']}/test", {}).json()
    assert not tested["taken"]
    assert "connect" in tested["said"].lower()
    httpx.delete(f"{standing.url}/v1/webhooks/{hook['webhook']}", headers=standing.operator)


@pytest.mark.parametrize(("url", "why"), REFUSED)
def test_only_addresses_that_are_safe_to_tell_are_taken(standing: Served, url: str, why: str) -> None:
    refused = standing.post("/v1/webhooks", {"url": url})
    assert (refused.status_code, refused.json()["reason"]) == (422, "bad-message")
    assert why in refused.json()["detail"]
    assert "secret" not in refused.text


def test_only_operators_may(standing: Served) -> None:
    enrolled = httpx.post(
        f"{standing.url}/v1/clients", json={"invite": standing.invite(role="reader"), "name": "looks-only"}
    )
    reader = {"authorization": f"Bearer {enrolled.json()['token']}"}
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", "/hook01"), ("POST", "/hook01/test")):
        asked = httpx.request(method, f"{standing.url}/v1/webhooks{path}", headers=reader)
        assert (asked.status_code, asked.json()["reason"]) == (403, "not-allowed")


def test_the_receivers_in_the_documentation_know_a_message_from_a_forgery(standing: Served, tmp_path: Path) -> None:
    blocks = {
        language: re.search(rf"^```{language}\n(# verify.*?)^```", TEXT.read_text(), re.MULTILINE | re.DOTALL)
        for language in ("python", "shell")
    }
    with receiving(Receiver()) as receiver:
        hook = _add(standing, receiver.url)
        standing.post(f"/v1/webhooks/{hook['webhook']}/test", {})
        received = receiver.next()
        httpx.delete(f"{standing.url}/v1/webhooks/{hook['webhook']}", headers=standing.operator)
    for language, found in blocks.items():
        assert found is not None
        program = [sys.executable, "-c"] if language == "python" else ["sh", "-c"]
        if language == "shell" and (shutil.which("openssl") is None or shutil.which("base64") is None):
            pytest.skip("openssl and base64 are not on this machine")
        for body, code in ((received.body, 0), (received.body + b" ", 1)):
            (tmp_path / "body").write_bytes(body)
            environment = {
                **os.environ, "SECRET": hook["secret"], "ID": received.headers["webhook-id"],
                "AT": received.headers["webhook-timestamp"], "SIGNATURE": received.headers["webhook-signature"],
            }  # fmt: skip
            done = subprocess.run([*program, found[1]], env=environment, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == code, (language, done.stderr)
