"""Models: those that runs start from, and those that they give."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from thinwire.codecs import Arrays, CodecError
from thinwire.coordinator.objects.broadcasts import read_measured
from thinwire.coordinator.objects.objects import Objects, model, payload
from thinwire.coordinator.objects.partial import Partials
from thinwire.coordinator.objects.states import read_state
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.runs.best import Best, best_by
from thinwire.coordinator.runs.definitions import Definitions
from thinwire.coordinator.runs.identity import fresh_id
from thinwire.coordinator.runs.rows import RunRow
from thinwire.machine.files import file_digest
from thinwire.machine.workers import Workers
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.protocol.messages import StoredModel
from thinwire.protocol.reasons import ProblemError

from .quotas import Quotas

LOOKS: Final = 3
"""How often a running run is looked at: between its row and its checkpoint its exchange may close."""
_log = structlog.get_logger("thinwire.coordinator")
Take = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class FinalModel:
    """The file of a finished run's model, and its digest."""

    path: Path
    digest: bytes


@dataclass(frozen=True, slots=True)
class CurrentModel:
    """The model file of a run that goes on, and its digest."""

    data: bytes
    digest: bytes


class Models:
    """`max_bytes`: of a submitted model. `promised`: bytes that open uploads may still need."""

    def __init__(
        self,
        runs: Runs,
        exchanges: Exchanges,
        definitions: Definitions,
        objects: Objects,
        partials: Partials,
        quotas: Quotas,
        workers: Workers,
        *,
        max_bytes: int,
        promised: Callable[[], int],
    ) -> None:
        self._runs = runs
        self._exchanges = exchanges
        self._definitions = definitions
        self._objects = objects
        self._partials = partials
        self._quotas = quotas
        self._workers = workers
        self._max_bytes = max_bytes
        self._promised = promised
        self._whole: set[tuple[str, bytes]] = set()
        self._mending = asyncio.Lock()

    # -- to start from ----------------------------------------------------------------------------------------

    async def store(self, receive: Callable[[Take], Awaitable[None]]) -> StoredModel:
        """A submitted model (safetensors). `receive` hands over each piece of it, as soon as it is there, to the
        function that it is given. Raises: `message-too-large`, `run-invalid`, `storage-full`, `storage-failed`,
        OSError, and what `receive` raises; then nothing is kept.
        """
        if self._quotas.limits_disk:
            await self._workers.run(self._quotas.measure)
        promised, size = self._promised(), 0
        self._quotas.check_disk(promised, 1)
        arriving = f"model-{fresh_id()}"
        self._partials.create(arriving)
        try:
            with self._partials.appending(arriving) as tail:

                def take(piece: bytes) -> None:
                    nonlocal size
                    size += len(piece)
                    if size > self._max_bytes:
                        raise ProblemError("message-too-large", f"a model of more than {self._max_bytes} bytes")
                    self._quotas.check_disk(promised, size)
                    tail.write(piece)

                await receive(take)
            return await self._workers.run(self._keep, self._partials.path(arriving))
        finally:
            self._partials.delete([arriving])

    def _keep(self, path: Path) -> StoredModel:
        arrays = read_model(path)
        digest = file_digest(path)
        self._objects.take(path, model(digest), durable=True)
        return StoredModel(digest=digest, parameters=sum(array.size for array in arrays.values()))

    # -- as it stands -----------------------------------------------------------------------------------------

    async def as_it_stands(self, run: str) -> FinalModel | CurrentModel:
        """The model of a run. Raises: `run-not-found`, `no-global-model`,
        `storage-failed` (the run, or its model, is damaged), OSError.
        """
        for look in range(1, LOOKS + 1):
            row = await self._runs.get(run)
            if row.model is not None:
                await self.check_final(run, row.model)
                return FinalModel(self._objects.local(payload(run, row.model)), row.model)
            if row.finished:
                break
            if row.damaged:
                raise ProblemError("storage-failed", row.reason or "")
            try:
                current = await self._workers.run(self._read_current, row)
            except FileNotFoundError:
                if look == LOOKS:
                    raise
                continue
            except CodecError as error:
                raise ProblemError("storage-failed", error.detail) from None
            if current is None:
                break
            return current
        raise ProblemError("no-global-model")

    def _read_current(self, row: RunRow) -> CurrentModel | None:
        return _current(
            self._definitions.of(row).server.model(read_state(self._objects, row.id, row.exchange, row.state_epoch))
        )

    async def best(self, run: str, score: str) -> FinalModel | CurrentModel:
        """The best model of a run by this score; "" for the first of which one is kept. Raises as `as_it_stands`."""
        before: Best | None = None
        while True:
            row = await self._runs.get(run)
            one = best_by(row.best, score)
            if one.model is not None:
                await self.check_final(run, one.model)
                return FinalModel(self._objects.local(payload(run, one.model)), one.model)
            exchange = await self._exchanges.get(run, one.exchange)
            try:
                arrays = None if exchange is None else await self._workers.run(
                    read_measured, self._objects, self._definitions.of(row), exchange
                )  # fmt: skip
            except (CodecError, ProblemError, FileNotFoundError) as error:
                if one != before:
                    # While it was read a better one may have taken its place.
                    before = one
                    continue
                raise ProblemError("storage-failed", f"the best model by {one.score}: {error}") from None
            if (found := _current(arrays)) is None:
                raise ProblemError("no-global-model")
            return found

    async def check_final(self, run: str, digest: bytes) -> None:
        """Sees to it that the final model is whole; looked at once by each process. Raises: `storage-failed` where
        neither it nor the checkpoint that it came from is.
        """
        if (run, digest) in self._whole:
            return
        row = await self._runs.get(run)
        async with self._mending:
            await self._workers.run(self._mend, row, digest)
        self._whole.add((run, digest))

    def _mend(self, row: RunRow, digest: bytes) -> None:
        name = payload(row.id, digest)
        with contextlib.suppress(FileNotFoundError):
            if file_digest(self._objects.local(name)) == digest:
                return
        try:
            arrays = self._definitions.of(row).server.model(
                read_state(self._objects, row.id, row.exchange, row.state_epoch)
            )
            data = b"" if arrays is None else model_bytes(arrays)
        except (CodecError, OSError, ProblemError) as error:
            _log.error("the final model cannot be made again", run=row.id, error=str(error))
            data = b""
        if hashlib.sha256(data).digest() != digest:
            raise ProblemError("storage-failed", f"the stored model {digest.hex()} is damaged")
        self._objects.delete([name])
        self._objects.put(name, data, durable=True)
        _log.warning("the final model was damaged and has been made again", run=row.id)


def _current(arrays: Arrays | None) -> CurrentModel | None:
    if arrays is None:
        return None
    data = model_bytes(arrays)
    return CurrentModel(data, hashlib.sha256(data).digest())
