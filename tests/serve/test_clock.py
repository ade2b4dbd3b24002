"""The wall clock jumps by years, both ways: nothing expires early, and all that is quiet expires."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.serve.conftest import Play
from tests.serve.house import House, reason_of
from thinwire.protocol.reasons import ProblemError


@pytest.mark.parametrize("jump_s", [1e8, -1e8])
def test_an_upload_expires_by_the_time_that_passes(play: Callable[[Play], None], jump_s: float) -> None:
    async def act(house: House) -> None:
        client = await house.enrol("ann")
        await house.run()
        await house.exchange()
        task = await house.book.find(await house.ask(client), "ann")
        upload = await house.uploads.create(task, 10, bytes(32))
        house.now += jump_s
        await house.uploads.expire(time.monotonic())
        assert house.uploads.find(upload.id, "ann") is upload
        await house.uploads.expire(time.monotonic() + 61)
        with pytest.raises(ProblemError) as caught:
            house.uploads.find(upload.id, "ann")
        assert reason_of(caught.value) == "upload-not-found"
        assert house.partials.ids() == set()

    play(act)
