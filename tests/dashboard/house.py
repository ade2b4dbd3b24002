"""The whole application over a folder, asked in process: with its lifespan, without a socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

from tests.coordinator.numpy_client import NumpyClient
from thinwire.coordinator.app import create_app
from thinwire.coordinator.settings import ServeSettings
from thinwire.methods.model_file import model_bytes

PEER = ("127.0.0.1", 5000)


class Site:
    """`http`: a browser's requests from this machine; `token`: the data folder's."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient, token: str) -> None:
        self.app = app
        self.http = http
        self.token = token
        self.service = app.state.service

    @property
    def operator(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    async def page(self, path: str, **headers: str) -> str:
        """The text of a page that is there."""
        response = await self.http.get(path, headers={"accept": "text/html", **headers})
        assert response.status_code == 200, (path, response.status_code, response.text[:500])
        assert response.headers["content-type"].startswith("text/html")
        return response.text

    async def twin(self, path: str) -> Any:
        """The same as JSON."""
        response = await self.http.get(path, headers={"accept": "application/json"})
        assert response.status_code == 200, (path, response.text[:500])
        return response.json()

    async def log_in(self) -> None:
        """As the operator, with the browser's form."""
        answer = await self.send("/login", token=self.token)
        assert answer.status_code == 303, answer.text

    async def send(self, path: str, /, **form: str) -> httpx.Response:
        """A form, as a browser sends it from a page of this origin."""
        return await self.http.post(path, data=form, headers={"sec-fetch-site": "same-origin"})

    async def invite(self, **wanted: Any) -> str:
        answer = await self.http.post("/v1/invites", json={"uses": 50, **wanted}, headers=self.operator)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["invite"])

    async def run(self, name: str = "night", **settings: Any) -> str:
        """A run of fedavg with a small model; its id."""
        arrays = {"w": np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5)}
        stored = await self.http.post("/v1/models", content=model_bytes(arrays), headers=self.operator)
        wanted = {"name": name, "method": "fedavg", "rounds": 3, "cohort": 2, **settings}
        body = {"settings": wanted, "model": stored.json()["digest"]}
        answer = await self.http.post("/v1/runs", json=body, headers=self.operator)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def client(self, name: str) -> NumpyClient:
        """One that has enrolled."""
        client = NumpyClient(self.http, name)
        await client.enrol(await self.invite())
        return client


@contextlib.asynccontextmanager
async def site(folder: Path, *, peer: tuple[str, int] = PEER, **settings: Any) -> AsyncIterator[Site]:
    """A coordinator over this folder."""
    app = create_app(ServeSettings(data_dir=folder, **settings))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=peer)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield Site(app, http, (folder / "operator.token").read_text().strip())
