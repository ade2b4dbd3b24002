"""Makes data_fe71ef9.tar.gz: the data folder of a coordinator of commit fe71ef9, and what it said about it.

In a checkout of that commit: `python .../make_data_fe71ef9.py OUT.tar.gz`.

    data/           the folder: one run finished; one in the middle (of three answers one accepted, one half arrived);
                    one paused without its open exchange's answers, in another group
    clients.json    name -> token, what it holds
    views.json      address -> what the operator got there
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import sqlite3
import sys
import tarfile
import tempfile
from pathlib import Path

import httpx

sys.path.insert(0, str(Path.cwd()))

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, free_port, model

SETTINGS = {"steps": 2, "delta": True, "private": True}
NUMBERS = 4  # rows of 4, and 4 more: 20 numbers


async def enrolled(http: httpx.AsyncClient, served: Served, group: str) -> list[NumpyClient]:
    invite = served.invite(group=group)
    clients = [NumpyClient(http, f"{group}-{index:02}", through_upload=index == 1) for index in range(3)]
    for client in clients:
        await client.enrol(invite)
    return clients


async def answer_one(client: NumpyClient) -> None:
    message = await client.register()
    assert message is not None
    response = await client.answer(message.task, *client.perform(await client.fetch(message)))
    assert response.status_code == 200, response.content


async def half_an_upload(client: NumpyClient) -> None:
    message = await client.register()
    assert message is not None
    data, _ = client.perform(await client.fetch(message))
    created = await client.create_upload(message.task, data)
    tus = {**client.auth, "tus-resumable": "1.0.0", "upload-offset": "0"}
    headers = {**tus, "content-type": "application/offset+octet-stream"}
    response = await client.http.patch(created.headers["location"], content=data[: len(data) // 2], headers=headers)
    assert response.status_code == 204, response.content


async def use(served: Served) -> list[NumpyClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
        clients, others = await enrolled(http, served, "default"), await enrolled(http, served, "ward")
        served.run(model(NUMBERS), name="finished", rounds=1, cohort=3, settings=SETTINGS)
        await asyncio.gather(*(client.work() for client in clients))

        paused = served.run(model(NUMBERS), name="paused", group="ward", rounds=2, cohort=3, settings=SETTINGS)
        await asyncio.gather(*(client.work(1) for client in others))
        await answer_one(others[0])
        response = served.post(f"/v1/runs/{paused['id']}/pause", {"open": "drop"})
        assert response.status_code == 200, response.text

        served.run(model(NUMBERS), name="open", rounds=2, cohort=3, settings=SETTINGS, **{"deadline-s": 86400})
        for client in clients:
            client.verdicts.clear()
        await asyncio.gather(*(client.work(1) for client in clients))
        await answer_one(clients[0])
        await half_an_upload(clients[1])
        await clients[2].register()
        return [*clients, *others]


def views(served: Served) -> dict[str, object]:
    paths = ["/v1/runs", "/v1/clients"]
    for run in served.get("/v1/runs").json()["runs"]:
        paths += [f"/v1/runs/{run['id']}{what}" for what in ("", "/metrics", "/ledger")]
    return {path: served.get(path).json() for path in paths}


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        served = Served(folder / "data", free_port())
        served.data_dir.mkdir()
        served.start()
        try:
            clients = asyncio.run(use(served))
            said = views(served)
        finally:
            served.stop()
        held = {client.name: {"token": client.token, "held": client.held} for client in clients}
        (folder / "clients.json").write_text(json.dumps(held, indent=1))
        (folder / "views.json").write_text(json.dumps(said, indent=1))
        with contextlib.closing(sqlite3.connect(served.data_dir / "thinwire.db", isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=DELETE")
            database.execute("VACUUM")
        (served.data_dir / "log.txt").unlink()
        with gzip.GzipFile(out, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
            for path in sorted(folder.rglob("*")):
                entry = archive.gettarinfo(path, str(path.relative_to(folder)))
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                with path.open("rb") if path.is_file() else contextlib.nullcontext() as file:
                    archive.addfile(entry, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
