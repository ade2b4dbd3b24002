"""Programs with an event loop ask what the command line asks."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.coordinator.served import Served, model
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.operator import requests
from thinwire.operator.async_client import AsyncCoordinator
from thinwire.operator.client import Coordinator
from thinwire.operator.transport import UnreachableError
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings


def test_both_ask_the_same(standing: Served, tmp_path: Path) -> None:
    token = (standing.data_dir / "operator.token").read_text().strip()
    first = tmp_path / "first.safetensors"
    first.write_bytes(model_bytes(model(100)))

    async def ask() -> None:
        async with AsyncCoordinator(standing.url, token) as coordinator:
            stored = await coordinator.store_model(first)
            run = await coordinator.start_run(RunSettings(name="by-program", method="fedavg"), stored.digest)
            events = coordinator.events("by-program")
            event = await anext(events)
            assert (event.kind, event.id is None) == ("run", False)
            await events.aclose()
            await coordinator.command(run.id, "stop", "drop")
            assert [event.kind async for event in coordinator.events(run.id, event.id)][-1] == "run"
            assert (await coordinator.run("by-program")).outcome == "stopped"
            assert await coordinator.metrics(run.id) == []
            assert (await coordinator.ledger(run.id, "kind")).links == []
            assert await coordinator.pull(run.id, tmp_path / "pulled") == (tmp_path / "pulled").stat().st_size
            assert list(read_model(tmp_path / "pulled")) == list(model(100))
            invite = await coordinator.invite(role="evaluator", group="async", uses=2)
            (made,) = [one for one in await coordinator.invites() if one.group == "async"]
            assert (invite.uses, made.uses_left) == (2, 2)
            await coordinator.order(requests.void(made.invite))
            with pytest.raises(ProblemError, match="no client is named"):
                await coordinator.order(requests.revoke("nobody", with_invite=False))
            with Coordinator(standing.url, token) as other:
                assert await coordinator.runs() == await asyncio.to_thread(other.runs)
                assert await coordinator.clients() == await asyncio.to_thread(other.clients)

    asyncio.run(ask())


def test_nobody_there_is_said() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"

    async def ask() -> None:
        async with AsyncCoordinator(url) as coordinator:
            with pytest.raises(UnreachableError, match=url):
                await coordinator.runs()

    asyncio.run(ask())
