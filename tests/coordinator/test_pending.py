"""A device without an invite, from its request to its token, over HTTP; and what strangers cannot do with it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import httpx
import pytest

from tests.coordinator.served import Served
from tests.dashboard.house import site
from thinwire.operator.client import Coordinator
from thinwire.protocol.reasons import ProblemError

OWN = "drawn-by-the-device-itself"


def _body(own: str = OWN, **also: str) -> dict[str, str]:
    return {"invite": hashlib.sha256(own.encode()).hexdigest(), "name": "ward-9", **also}


def _operator(served: Served) -> Coordinator:
    return Coordinator(served.url, (served.data_dir / "operator.token").read_text().strip())


def test_from_the_code_to_the_token(standing: Served) -> None:
    with httpx.Client(base_url=standing.url, timeout=60) as http:
        _let_in(standing, http)
    for path in standing.data_dir.rglob("*"):
        assert not path.is_file() or OWN.encode() not in path.read_bytes()


def _let_in(standing: Served, http: httpx.Client) -> None:
    asked = http.post("/v1/pending", json=_body(says="by the window\x1b[31m")).json()
    assert asked["state"] == "pending"
    told = list[httpx.Response]()
    waiting = threading.Thread(target=lambda: told.append(http.post("/v1/pending?wait_s=50", json=_body(says="x"))))
    waiting.start()
    with _operator(standing) as operator:
        while not (found := operator.pending()) or found[0].says != "x":
            pass
        (one,) = found
        assert (one.code, one.name, one.address) == (asked["code"], "ward-9", "127.0.0.1")
        # As somebody types it: small letters, no hyphen.
        accepted = operator.accept(one.code.lower().replace("-", ""), group="north", role="evaluator")
        assert accepted.code == one.code
        assert operator.pending() == []
    waiting.join()
    assert told[0].json() == {"state": "accepted"}
    enrolled = http.post("/v1/clients", json={"invite": OWN, "name": "ward-9"})
    assert (enrolled.status_code, enrolled.json()["group"], enrolled.json()["role"]) == (201, "north", "evaluator")
    # Whoever has only seen the request has nothing: its hash is no invite.
    guessed = http.post("/v1/clients", json={"invite": _body()["invite"], "name": "thief"})
    assert guessed.json()["reason"] == "invite-invalid"


def test_only_operators_decide_and_only_people_look(standing: Served) -> None:
    own = "another one"
    code = httpx.post(f"{standing.url}/v1/pending", json=_body(own)).json()["code"]
    at = f"{standing.url}/v1/pending"
    device = httpx.post(f"{standing.url}/v1/clients", json={"invite": standing.invite(), "name": "some-device"}).json()
    reader = httpx.post(f"{standing.url}/v1/clients", json={"invite": standing.invite(role="reader")}).json()
    for token, may_look in ((None, 401), (device["token"], 403), (reader["token"], 200)):
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        assert httpx.get(at, headers=headers).status_code == may_look
        for method in ("POST", "DELETE"):
            refused = httpx.request(method, f"{at}/{code}", headers=headers)
            assert refused.status_code == (401 if token is None else 403), refused.text
    with _operator(standing) as operator:
        for wrong in ({"role": "operator"}, {"role": "reader"}, {"group": "a b"}):
            response = httpx.post(f"{at}/{code}", json=wrong, headers=operator._http.headers)
            assert response.json()["reason"] == "bad-message", wrong
        operator.refuse(code)
        with pytest.raises(ProblemError, match="no device waits"):
            operator.accept(code)
    assert httpx.post(at, json=_body(own)).json() == {"state": "refused"}
    assert httpx.post(f"{standing.url}/v1/clients", json={"invite": own}).json()["reason"] == "invite-invalid"


async def _statuses(folder: Path, count: int, **settings: object) -> list[int]:
    async with site(folder, **settings) as here:
        bodies = [_body(str(number)) for number in range(count)]
        return [(await here.http.post("/v1/pending", json=body)).status_code for body in bodies]


def test_asking_is_bounded_slowed_down_and_can_be_forbidden(tmp_path: Path) -> None:
    assert asyncio.run(_statuses(tmp_path / "a", 8, max_pending=20)) == [200] * 4 + [429] * 4
    assert asyncio.run(_statuses(tmp_path / "b", 8, max_failures_per_address=3)) == [200] * 3 + [429] * 5
    assert asyncio.run(_statuses(tmp_path / "c", 1, max_pending=0)) == [403]
