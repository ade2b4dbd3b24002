"""Clients and invites: looked for, made, shut out; what was shown once is shown no more."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

from tests.dashboard.house import site
from thinwire.coordinator.serve.people import People
from thinwire.protocol.bytes import Bytes


def test_clients_are_found_and_shut_out(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            assert (await here.http.get("/clients", headers={"accept": "text/html"})).status_code == 303
            await here.log_in()
            for name in ("ward-1", "ward-2", "clinic"):
                await here.client(name)
            here.service.ledger.record(("", "ward-2", None, "idle"), Bytes(uplink_framing=500, downlink_framing=200))
            await here.service.ledger.flush()
            told = await here.twin("/clients?order=bytes&backwards=true")
            assert [one["client"] for one in told["clients"]] == ["ward-2", "clinic", "ward-1"]
            assert told["clients"][0]["today_bytes"] == told["clients"][0]["uplink_bytes"] + 200 == 700
            assert {one["word"] for one in told["clients"]} == {"never"}
            found = await here.twin("/clients?about=ward")
            assert ([one["client"] for one in found["clients"]], found["total"]) == (["ward-1", "ward-2"], 2)
            assert (await here.twin("/clients?about=%25"))["total"] == 0
            assert (await here.send("/clients/ward-1/revoke")).status_code == 303
            assert [one["client"] for one in (await here.twin("/clients"))["clients"]] == ["clinic", "ward-2"]
            gone = (await here.twin("/clients?about=ward-1&revoked=true"))["clients"]
            assert [one["word"] for one in gone] == ["revoked"]
            listed = await here.page("/clients?revoked=true")
            assert "Revoke ward-1" not in listed
            assert 'aria-label="Delete ward-1"' in listed
            assert "thinwire client delete ward-1" in await here.page("/clients/ward-1")
            assert (await here.send("/clients/ward-1/delete")).status_code == 303
            left = (await here.twin("/clients?revoked=true"))["clients"]
            assert [one["client"] for one in left] == ["clinic", "ward-2"]
            nobody = await here.http.get("/clients/ward-1.json", headers=here.operator)
            assert (nobody.status_code, nobody.json()["reason"]) == (404, "not-found")
            told = [one["said"] for one in (await here.twin("/audit"))["deeds"]]
            assert told[:2] == ["operator deleted ward-1", "operator revoked client ward-1"]

    asyncio.run(work())


def test_an_invite_is_shown_once_and_lets_somebody_in(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.log_in()
            answer = await here.send("/invites", group="ward", role="client", uses="2", hours="1")
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            (code,) = re.findall(r'id="code" tabindex="0">([^<]+)<', answer.text)
            assert 'class="qr"' in answer.text
            assert "thinwire-client join http://localhost --invite-file invite.txt" in answer.text
            assert code not in await here.page("/invites")
            came = await here.http.post("/v1/clients", json={"invite": code, "name": "anna"})
            assert (came.status_code, came.json()["group"]) == (201, "ward")
            (one,) = (await here.twin("/invites"))["invites"]
            assert (one["uses_left"], one["group"]) == (1, "ward")
            assert "used up" not in await here.page("/invites")
            await here.http.post("/v1/clients", json={"invite": code, "name": "bert"})
            assert "used up" in await here.page("/invites")
            await here.send(f"/invites/{one['invite']}/void")
            assert (await here.twin("/invites"))["invites"] == []
            for wrong in ({"uses": "0"}, {"uses": "many"}, {"role": "king"}, {"group": "a b"}):
                refused = await here.send("/invites", **wrong)
                assert (refused.status_code, refused.json()["reason"]) == (422, "bad-message"), wrong
            told = [one["said"] for one in (await here.twin("/audit"))["deeds"]]
            assert "operator made an invite: client, group ward, 2 uses" in told
            assert any(one.startswith("operator voided an invite") for one in told)

    asyncio.run(work())


def test_a_device_that_asks_is_let_in_from_the_page(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.log_in()
            own = {"clinic": "own-1", "ward": "own-2"}
            codes = {}
            for name, invite in own.items():
                body = {"invite": hashlib.sha256(invite.encode()).hexdigest(), "name": name, "says": "<b>\x1b[1mme"}
                codes[name] = (await here.http.post("/v1/pending", json=body)).json()["code"]
            text = await here.page("/invites")
            assert "&lt;b&gt;\\x1b[1mme" in text
            assert all(f"Does the device itself show {code}?" in text for code in codes.values())
            told = await here.twin("/invites")
            assert [one["name"] for one in told["pending"]] == ["clinic", "ward"]
            wrong = await here.send(f"/pending/{codes['clinic']}/accept", role="operator")
            assert (wrong.status_code, wrong.json()["reason"]) == (422, "bad-message")
            assert (await here.send(f"/pending/{codes['clinic']}/accept", group="south")).status_code == 303
            assert (await here.send(f"/pending/{codes['ward']}/refuse")).status_code == 303
            assert (await here.twin("/invites"))["pending"] == []
            came = await here.http.post("/v1/clients", json={"invite": own["clinic"], "name": "clinic"})
            assert (came.status_code, came.json()["group"]) == (201, "south")
            said = [one["said"] for one in (await here.twin("/audit"))["deeds"]]
            assert f"operator let in the device {codes['clinic']}: clinic, client, group south" in said
            assert f"operator refused the device {codes['ward']}: ward" in said

    asyncio.run(work())


def test_a_client_is_called_otherwise_and_keeps_its_name(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.log_in()
            anna, bert = await here.client("anna"), await here.client("bert")
            assert (await here.send("/clients/anna/rename", label="window")).headers["location"] == "/clients/anna"
            for label in ("bert", "a b"):
                assert (await here.send("/clients/anna/rename", label=label)).status_code >= 400
            assert (await here.send("/clients/bert/rename", label="window")).json()["reason"] == "name-taken"
            run = await here.run(rounds=1)
            await asyncio.gather(anna.work(), bert.work())
            listed = {one["client"]: one for one in (await here.twin("/clients?about=window"))["clients"]}
            assert (list(listed), listed["anna"]["label"]) == (["anna"], "window")
            text = await here.page("/runs/night")
            assert 'title="anna">window<' in text
            detail = await here.twin("/clients/window")
            assert detail["client"]["client"] == "anna"
            assert [(one["run"], one["state"]) for one in detail["turns"]] == [("night", "accepted")] * 2
            assert "window" in await here.page("/clients/anna")
            ledger = (await here.http.get(f"/v1/runs/{run}/ledger", headers=here.operator)).json()["rows"]
            assert "window" not in {row["client"] for row in ledger}
            assert (await here.send("/clients/window/revoke")).status_code == 303
            assert (await here.twin("/clients/anna"))["client"]["word"] == "revoked"
            assert (await here.send("/clients/anna/rename", label="")).status_code == 303
            assert "label" not in (await here.twin("/clients/anna"))["client"]
            nobody = await here.http.get("/clients/nobody.json", headers=here.operator)
            assert (nobody.status_code, nobody.json()["reason"]) == (404, "not-found")

    asyncio.run(work())


def test_the_rate_is_of_what_has_crossed_since_the_look_before(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.log_in()
            await here.client("anna")
            now = [1_800_000_000.0]
            people = here.app.state.parts[People]
            people._clock = lambda: now[0]

            async def rate(later: float, wire: int) -> float | None:
                now[0] += later
                here.service.ledger.record(("", "anna", None, "idle"), Bytes(uplink_framing=wire))
                await here.service.ledger.flush()
                found: float | None = (await here.twin("/clients"))["clients"][0].get("bytes_a_second")
                return found

            assert await rate(0, 500) is None
            assert await rate(1, 100) is None
            assert await rate(4, 900) == 225
            assert await rate(5, 0) == 0
            assert await rate(61, 7000) is None

    asyncio.run(work())
