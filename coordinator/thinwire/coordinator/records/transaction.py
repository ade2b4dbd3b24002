"""What waits to be written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from sqlalchemy import Connection

T = TypeVar("T")


@dataclass(slots=True)
class Transaction(Generic[T]):
    """A work for the writer's thread, and what becomes of it. `durable`: it survives the death of the machine."""

    work: Callable[[Connection], T]
    durable: bool
    done: asyncio.Future[T] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    result: T | None = None
    error: Exception | None = None

    def finish(self) -> None:
        """Tells whoever waits; on the event loop."""
        if self.done.done():
            return  # its caller has gone
        if self.error is None:
            self.done.set_result(cast(T, self.result))
        else:
            self.done.set_exception(self.error)
