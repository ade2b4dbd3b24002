"""Clients and invites: looked for, made, shut out; what was shown once is shown no more."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.dashboard.house import site
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
            assert "Revoke ward-1" not in await here.page("/clients?revoked=true")

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
            await here.send(f"/invites/{one['invite']}/void")
            assert (await here.twin("/invites"))["invites"] == []
            for wrong in ({"uses": "0"}, {"uses": "many"}, {"role": "king"}, {"group": "a b"}):
                refused = await here.send("/invites", **wrong)
                assert (refused.status_code, refused.json()["reason"]) == (422, "bad-message"), wrong
            told = [one["said"] for one in (await here.twin("/audit"))["deeds"]]
            assert "operator made an invite: client, group ward, 2 uses" in told
            assert any(one.startswith("operator voided an invite") for one in told)

    asyncio.run(work())
