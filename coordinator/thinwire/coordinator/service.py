"""The coordinator: its parts, built, started, stopped. Whoever serves requests takes the parts from here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from thinwire.machine.files import bytes_below
from thinwire.machine.workers import Workers
from thinwire.protocol.reasons import ProblemError

from .backing import DATABASE, Backing
from .decoding.choosing import Decoder
from .lead.building import Terms, build_leadership
from .lead.clock import Clock
from .records.answers import Answers as AnswerRows
from .records.client_logs import ClientLogs as LogRows
from .records.clients import Clients
from .records.events import Events as EventRows
from .records.exchanges import Exchanges
from .records.invites import Invites
from .records.leases import Leases
from .records.ledger import Ledger
from .records.participation import Participation
from .records.payloads import Payloads as PayloadRows
from .records.pending import Pending as PendingRows
from .records.presence import Presence as PresenceRows
from .records.runs import Runs
from .records.secrets import Secrets
from .records.tasks import Tasks
from .records.troubles import Troubles
from .records.uploads import Uploads as UploadRows
from .records.webhooks import Webhooks as WebhookRows
from .runs.definitions import Definitions
from .runs.tally import Tally
from .serve.answers import Answers
from .serve.client_logs import ClientLogs
from .serve.commands import Commands
from .serve.delivery import Delivering
from .serve.enrolment import Enrolment
from .serve.events import Events
from .serve.exchanges import ExchangeBook
from .serve.figures import Figures
from .serve.labels import Labels
from .serve.machine import Machine
from .serve.models import Models
from .serve.noting import Noting
from .serve.pages import build_pages
from .serve.payloads import Payloads
from .serve.pending import Pending
from .serve.posting import Posting
from .serve.presence import Presence
from .serve.quotas import Limits, Quotas
from .serve.reads import Reads
from .serve.registrations import Registrations
from .serve.tasks import TaskBook, TaskMessages
from .serve.tracing import Tracing, sending_to
from .serve.uploads import Uploads
from .serve.webhooks import Webhooks
from .settings import ServeSettings
from .wire.downloads import Downloads

SAVE_S: Final = 2.0
"""Between two writes of who was heard, and of the time that open exchanges have left."""
FLUSH_S: Final = 0.5
"""Between two writes of the ledger, where anything has crossed: what a process forgets that dies is what came since."""
LOOK_S: Final = 5.0
EVENTS_KEPT_S: Final = 30 * 86_400.0
SWEEP_S: Final = 3600.0
_log = structlog.get_logger("thinwire.coordinator")


class Service:
    """`start` first, `stop` last. `parts`: by class, what endpoints take; empty while starting and stopping.

    `failure`: why it could not start. Raises: OSError where the data folder cannot be used.
    """

    def __init__(self, settings: ServeSettings) -> None:
        data_dir, durable = settings.data_dir, settings.durability == "fsync"
        self.parts: dict[type, object] = {}
        self.failure = ""
        self._background: list[asyncio.Task[None]] = []
        backing = self._backing = Backing(settings)
        objects, partials, signals, database = backing.objects, backing.partials, backing.signals, backing.database
        workers = self._workers = Workers(settings.workers)
        self._decoder = Decoder(settings.decoding, settings.workers, data_dir / "decoding")
        definitions, troubles, clock = Definitions(), Troubles(), Clock()
        tally = Tally()
        runs, exchanges, tasks = Runs(database), Exchanges(database), Tasks(database)
        self._presence_rows = PresenceRows(database, backing.holder if backing.is_shared else None)
        self._event_rows = EventRows(database)
        self.ledger = Ledger(database, is_shared=backing.is_shared)

        terms = Terms(backing.holder, data_dir / "answers", settings.present_for_s, durable, backing.lease_s)
        self._leadership = build_leadership(
            database, self.ledger, objects, signals, workers, definitions, troubles, tally, clock, terms,
            self._decoder.decode,
        )  # fmt: skip

        noting, downloads = Noting(troubles, signals), Downloads(data_dir / "downloads")
        limits = Limits(
            settings.max_uploads_per_client,
            settings.max_upload_bytes_per_client,
            settings.max_upload_bytes_per_run,
            settings.max_disk_bytes,
        )
        quotas = Quotas(limits, partial(_held, data_dir))
        self._uploads = Uploads(
            UploadRows(database), partials, objects, signals, quotas, workers, noting,
            expires_s=settings.upload_expires_s, shared=backing.is_shared,
        )  # fmt: skip

        def shut_out(client: str) -> None:
            downloads.cut(client)
            self._uploads.stop(client)

        clients = Clients(database)
        self.enrolment = Enrolment(
            clients, Invites(database), Secrets(database), signals, data_dir,
            max_clients=settings.max_clients, shared=backing.is_shared, ended=shut_out,
        )  # fmt: skip
        self._presence = Presence(self._presence_rows, signals)
        exchange_book = ExchangeBook(exchanges, objects, workers)
        task_book = TaskBook(tasks, exchange_book)
        messages = TaskMessages(exchange_book, task_book, workers)
        self._registrations = Registrations(self.enrolment, self._presence, runs, tasks, messages, signals)
        self._answers = Answers(
            runs, tasks, AnswerRows(database), self._uploads, objects, signals, workers, noting, self.ledger,
            durable=durable,
        )  # fmt: skip
        models = Models(
            runs, exchanges, definitions, objects, partials, quotas, workers,
            max_bytes=settings.max_model_bytes, promised=lambda: self._uploads.promised_bytes,
        )  # fmt: skip
        labels = Labels(self.enrolment, clients, signals)
        reads = Reads(
            runs, exchanges, tasks, self.ledger, troubles, definitions, self.enrolment, self._presence, labels.called
        )
        machine = Machine(data_dir, settings.certificate, settings.max_disk_bytes, partial(_held, data_dir))
        self.pages = build_pages(
            database, self.ledger, reads, definitions, troubles, machine, workers,
            silent_after_s=settings.present_for_s, called=labels.called,
        )  # fmt: skip
        events, webhook_rows = Events(self._event_rows, reads, signals), WebhookRows(database)
        self._posting = Posting()
        self._delivering = Delivering(
            webhook_rows, self._event_rows, events, self._posting, Leases(database), signals, backing.holder,
            backing.lease_s,
        )  # fmt: skip
        self._tracing = None
        if settings.otlp:
            self._tracing = Tracing(
                sending_to(settings.otlp), self._event_rows, runs, exchanges, Participation(database), self.ledger,
                Leases(database), backing.holder, backing.lease_s,
            )  # fmt: skip
        self._endpoints_take = (
            *self.pages.parts,
            self.enrolment,
            self._presence,
            self._registrations,
            self._answers,
            self._uploads,
            task_book,
            exchange_book,
            models,
            reads,
            labels,
            downloads,
            Commands(runs, exchanges, definitions, objects, signals, workers, max_runs=settings.max_runs),
            events,
            Figures(runs, exchanges, self.ledger, tally, self._presence, objects, partials, workers),
            Payloads(PayloadRows(database), tasks, objects, models),
            ClientLogs(LogRows(database), self.enrolment),
            Pending(PendingRows(database), signals, most=settings.max_pending),
            Webhooks(webhook_rows, self._posting, signals),
        )

    async def start(self) -> None:
        """Everything as the last process left it; its runs go on. Raises: `storage-failed`, `storage-full`, OSError."""
        await self._backing.open(self._workers)
        if not self._backing.is_shared:
            await self._presence_rows.reset()
        await self.enrolment.load()
        await self._uploads.load()
        await self._leadership.start()
        for name, work in (
            ("save", self._save_regularly()),
            ("flush", self._flush_regularly()),
            ("follow-signals", self._backing.follow()),
            ("look", self._look()),
            ("follow-access", self.enrolment.follow()),
            ("follow-uploads", self._uploads.follow()),
            ("webhooks", self._delivering.deliver()),
            *([] if self._tracing is None else [("traces", self._tracing.trace())]),
        ):
            self._background.append(asyncio.create_task(_for_ever(name, work), name=name))
        self.parts.update({type(part): part for part in self._endpoints_take})

    def end_waiting(self) -> None:
        """Parked polls and streams of events end; nothing new begins."""
        self.parts.clear()
        self._registrations.stop()

    async def stop(self) -> None:
        """Stores what is known. Open exchanges stay open."""
        self.end_waiting()
        await self._answers.close()
        await self._leadership.stop()
        for task in self._background:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._posting.close()
        if self._tracing is not None:
            await self._tracing.finish()
        with contextlib.suppress(ProblemError):
            await self._save()
        await self._backing.database.close()
        self._workers.close()
        self._decoder.close()

    async def _save_regularly(self) -> None:
        sweep_at = 0.0
        while True:
            await asyncio.sleep(SAVE_S)
            try:
                await self._save()
                await self._leadership.save_clocks()
                await self._uploads.expire(time.monotonic())
                if time.monotonic() >= sweep_at:
                    await self._event_rows.sweep(time.time() - EVENTS_KEPT_S)
                    sweep_at = time.monotonic() + SWEEP_S
            except (ProblemError, OSError) as error:
                _log.error("not saved", error=str(error))

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            with contextlib.suppress(ProblemError):  # `_save` tries the same, and says so
                await self.ledger.flush()

    async def _look(self) -> None:
        """What other processes have done since, though no hint of it came."""
        while self._backing.is_shared:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(ProblemError):
                await self._registrations.look()

    async def _save(self) -> None:
        await self.enrolment.save()
        await self._presence.save()
        await self.ledger.flush()


def _held(data_dir: Path) -> int:
    """The bytes of the data folder beside uploads, and beside the database's log, which empties itself."""
    logs = sum(path.stat().st_size for path in data_dir.glob(f"{DATABASE}-*"))
    return bytes_below(data_dir, but=data_dir / "uploads") - logs


async def _for_ever(name: str, work: Coroutine[Any, Any, None]) -> None:
    """What goes on until it is cancelled; a defect is not lost with its task."""
    try:
        await work
    except Exception:
        _log.exception("defect", task=name)
        raise
