"""The wall clock jumps by years, both ways: nothing expires early, nobody is locked out for long."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from thinwire.coordinator.folder import Folder
from thinwire.coordinator.quotas import Quotas
from thinwire.coordinator.settings import ServeSettings
from thinwire.coordinator.store import Store
from thinwire.coordinator.uploads import Uploads
from thinwire.coordinator.wire.throttle import WINDOW_S, Rates, Throttle
from thinwire.protocol.reasons import ProblemError

YEARS_S = 1e8


@pytest.mark.parametrize("jump_s", [YEARS_S, -YEARS_S])
def test_an_upload_expires_by_the_time_that_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    async def play() -> None:
        folder, store = Folder(tmp_path), Store(tmp_path / "db")
        folder.create()
        await store.open()
        uploads = Uploads(store, folder, Quotas(ServeSettings(data_dir=tmp_path)), expires_s=60)
        upload = await uploads.create("client", "task", "run", 10, bytes(32))
        wall = time.time() + jump_s
        monkeypatch.setattr(time, "time", lambda: wall)
        await uploads.expire(time.monotonic())
        assert uploads.find(upload.id, "client") is upload
        await uploads.expire(time.monotonic() + 61)
        with pytest.raises(ProblemError):
            uploads.find(upload.id, "client")
        await store.close()

    asyncio.run(play())


@pytest.mark.parametrize("jump_s", [YEARS_S, -YEARS_S])
def test_a_rate_is_of_the_time_that_passes(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    throttle = Throttle(Rates(per_client=1, per_address=1, failures=1))
    for _ in range(WINDOW_S):
        throttle.client("client")
    wall = time.time() + jump_s
    monkeypatch.setattr(time, "time", lambda: wall)
    with pytest.raises(ProblemError) as caught:
        throttle.client("client")
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s <= WINDOW_S
