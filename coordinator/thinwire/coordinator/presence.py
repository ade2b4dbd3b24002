"""Who is there: parked polls and last requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .access import Client
from .runs import Run


@dataclass(slots=True)
class Seen:
    """What a client's last registration said. `holds`: run -> exchange whose parts it still has."""

    client: Client
    at: float
    wall: float
    spec: bytes | None
    holds: dict[str, int]
    gone: bool = False


class Presence:
    """A client is present while its poll is parked, and `present_for_s` after its last request."""

    def __init__(self, present_for_s: float) -> None:
        self._present_for_s = present_for_s
        self._seen: dict[str, Seen] = {}
        self._parked: dict[str, asyncio.Future[bool]] = {}

    def register(self, client: Client, spec: bytes | None, holds: dict[str, int], now: float, wall: float) -> Seen:
        seen = Seen(client, now, wall, spec, holds)
        self._seen[client.name] = seen
        return seen

    def touch(self, client: Client, now: float, wall: float) -> None:
        """Any other request of a client that has registered before."""
        seen = self._seen.get(client.name)
        if seen is None:
            self.register(client, None, {}, now, wall)
        else:
            seen.at, seen.wall, seen.gone = now, wall, False

    def find(self, name: str) -> Seen | None:
        return self._seen.get(name)

    def forget(self, name: str) -> None:
        """The client is revoked; its parked poll ends."""
        self._seen.pop(name, None)
        self.wake(name)

    def hung_up(self, name: str) -> None:
        """The connection of its parked poll died: it is not present until it comes back."""
        seen = self._seen.get(name)
        if seen is not None:
            seen.gone = True

    def park(self, name: str) -> asyncio.Future[bool]:
        """Resolves to True when there may be something for the client, to False when a newer poll replaces it."""
        before = self._parked.get(name)
        if before is not None and not before.done():
            before.set_result(False)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._parked[name] = future
        return future

    def leave(self, name: str, future: asyncio.Future[bool]) -> None:
        if self._parked.get(name) is future:
            del self._parked[name]

    def wake(self, name: str) -> None:
        future = self._parked.get(name)
        if future is not None and not future.done():
            future.set_result(True)

    def wake_all(self) -> None:
        for name in list(self._parked):
            self.wake(name)

    @property
    def parked(self) -> int:
        return len(self._parked)

    def present(self, run: Run, now: float) -> set[str]:
        """The clients that are there and may serve this run."""
        return {
            name
            for name, seen in self._seen.items()
            if not seen.gone
            and (name in self._parked or now - seen.at < self._present_for_s)
            and serves(seen.client, seen.spec, run)
        }


def serves(client: Client, spec: bytes | None, run: Run) -> bool:
    """Whether a client may get this run's present task: group, role, model."""
    if client.group != run.definition.run.group or client.role == "operator":
        return False
    if client.role == "evaluator" and (run.open is None or run.open.task.kind != "evaluate"):
        return False
    return fits(spec, run)


def fits(spec: bytes | None, run: Run) -> bool:
    """Whether a client with a model of this spec could serve the run."""
    return spec is None or run.definition.spec is None or spec == run.definition.spec
