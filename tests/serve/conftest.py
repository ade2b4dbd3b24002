"""Plays: coroutines in a house of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.serve.house import House

Play = Callable[[House], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Play], None]:
    """Plays in an empty house."""

    def run(act: Play) -> None:
        async def open_and_act() -> None:
            async with House(tmp_path / "data").open() as house:
                await act(house)

        asyncio.run(open_and_act())

    return run
