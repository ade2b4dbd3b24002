"""What people call clients. A client's name stays: its token, its share of the data and its bytes are bound to it."""

from __future__ import annotations

import structlog

from thinwire.coordinator.records.clients import Client, Clients
from thinwire.coordinator.signals.signals import Signals
from thinwire.protocol.reasons import ProblemError

from .enrolment import Enrolment

_log = structlog.get_logger("thinwire.coordinator")


class Labels:
    """Over the clients that `enrolment` knows."""

    def __init__(self, enrolment: Enrolment, rows: Clients, signals: Signals) -> None:
        self._enrolment = enrolment
        self._rows = rows
        self._signals = signals

    def called(self, name: str) -> str:
        """What people call the client of this name."""
        client = self._enrolment.clients.get(name)
        return name if client is None or client.label is None else client.label

    def known(self, key: str) -> Client:
        """The client of this name or, where none has it, of this label. Raises: `not-found`."""
        found = self._enrolment.clients.get(key)
        if found is None:
            labelled = (one for one in self._enrolment.clients.values() if one.label == key)
            found = min(labelled, key=lambda one: one.revoked, default=None)
        if found is None:
            raise ProblemError("not-found", f"no client is named {key[:64]!r}")
        return found

    async def rename(self, key: str, label: str | None) -> Client:
        """People call this client so from now on; None: by its name. Raises: `not-found`, `name-taken`,
        `storage-failed`, `storage-full`.
        """
        client = await self._rows.rename(self.known(key).name, label)
        _log.info("renamed", client=client.name, label=client.label)
        await self._enrolment.look_up(client.name)
        self._signals.publish("access", client.name)
        return client
