"""Who may see and change what in the pages: a cookie that only pages of this origin can use."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.dashboard.house import Site, site
from thinwire.coordinator.records.audit import Audit

FAR = ("203.0.113.9", 4000)
HTML = {"accept": "text/html"}


async def state(here: Site) -> str:
    return str((await here.http.get("/v1/runs/night", headers=here.operator)).json()["state"])


def test_the_cookie_is_the_browsers_alone(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.run()
            answer = await here.send("/login", token=here.token, next="/runs/night")
            assert (answer.status_code, answer.headers["location"]) == (303, "/runs/night")
            cookie = answer.headers["set-cookie"].lower()
            assert "httponly" in cookie
            assert "samesite=strict" in cookie
            assert here.token.lower() not in cookie
            assert ">Pause<" in await here.page("/runs/night")
            assert (await here.send("/runs/night/pause")).status_code == 303
            assert await state(here) == "paused"

    asyncio.run(work())


def test_no_other_page_can_use_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.run()
            await here.log_in()
            for headers in (
                {"origin": "http://evil.example"},
                {"origin": "http://localhost:3000"},
                {"sec-fetch-site": "cross-site"},
                {"sec-fetch-site": "same-site", "origin": "http://localhost"},
                {},
            ):
                answer = await here.http.post("/runs/night/pause", headers={**headers, **HTML})
                assert answer.status_code in (303, 403), headers
                assert answer.headers.get("location", "/login").startswith("/login")
            rebound = await here.http.get("/", headers={"host": "evil.example", **HTML})
            assert rebound.status_code == 400
            assert await state(here) == "pending"

    asyncio.run(work())


def test_far_away_nothing_is_seen_without_a_token(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path, peer=FAR) as here:
            await here.run()
            for path in ("/", "/runs/night", "/compare", "/runs/night/rounds"):
                answer = await here.http.get(path, headers=HTML)
                assert answer.status_code == 303
                assert answer.headers["location"].startswith("/login?next=")
                twin = await here.http.get(path, headers={"accept": "application/json"})
                assert (twin.status_code, twin.json()["reason"]) == (401, "token-missing")
            wrong = await here.send("/login", token="a guess")  # noqa: S106
            assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
            away = await here.send("/login", token=here.token, next="//evil.example/")
            assert away.headers["location"] == "/"
            assert "night" in await here.page("/")
            await here.send("/logout")
            late = await here.http.post("/runs/night/pause", headers={**HTML, "referer": "http://localhost/runs/night"})
            assert (late.status_code, late.headers["location"]) == (303, "/login?next=/runs/night")
            assert (await here.http.post("/runs/night/pause")).json()["reason"] == "token-missing"
            assert (await here.http.get("/", headers=HTML)).status_code == 303

    asyncio.run(work())


def test_readers_read(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path, peer=FAR) as here:
            await here.run()
            body = {"invite": await here.invite(role="reader"), "name": "rita"}
            token = (await here.http.post("/v1/clients", json=body)).json()["token"]
            assert (await here.send("/login", token=token)).status_code == 303
            text = await here.page("/runs/night")
            assert "rita" in text
            assert ">Pause<" not in text
            assert (await here.send("/runs/night/pause")).status_code == 403
            # A client's token is no person's.
            body = {"invite": await here.invite(), "name": "device"}
            token = (await here.http.post("/v1/clients", json=body)).json()["token"]
            here.http.cookies.clear()
            assert (await here.send("/login", token=token)).status_code == 401

    asyncio.run(work())


def test_guesses_are_counted(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path, peer=FAR, max_failures_per_address=3) as here:
            found = [(await here.send("/login", token=f"guess {number}")).status_code for number in range(5)]
            assert found == [401, 401, 401, 429, 429]

    asyncio.run(work())


def test_what_operators_change_is_written_down(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.run()
            await here.log_in()
            await here.send("/runs/night/pause")
            await here.http.post("/v1/runs/night/resume", json={}, headers=here.operator)
            await here.http.get("/")
            deeds = [deed for _, deed in await here.app.state.parts[Audit].latest(10)]
            told = [(deed.method, deed.path, deed.status, deed.who, deed.address) for deed in deeds]
            assert told == [
                ("POST", "/v1/runs/night/resume", 200, "", "127.0.0.1"),
                ("POST", "/runs/night/pause", 303, "", "127.0.0.1"),
                ("POST", "/v1/runs", 201, "", "127.0.0.1"),
                ("POST", "/v1/models", 201, "", "127.0.0.1"),
            ]

    asyncio.run(work())
