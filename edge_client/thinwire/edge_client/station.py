"""The parts of one client put together: its folder, its link and the care for it, and what is told of all of them."""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from datetime import datetime
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from thinwire.machine.files import write_atomic
from thinwire.machine.supervision import Supervisor

from .console import Say
from .link.care import LinkCare
from .link.emulated import Pacer
from .link.sockets import CountingBackend
from .link.transfer import Patience, Transfer
from .memory.folder import Folder
from .settings import JoinSettings, UsageError
from .standing import STATUS_FILE, Standing


class Station:
    """On leaving the context the counts are kept, the connections closed, the folder is free and says how it ended.

    Raises: `UsageError`, `BadPeerError`, `FolderInUseError`, `OSError`.
    """

    def __init__(self, url: str, options: JoinSettings, *, say: Say, supervisor: Supervisor) -> None:
        self._stats = options.stats
        self.folder = Folder(options.folder, say)
        self._before = self.folder.link()
        rng = Random(hashlib.sha256(f"{options.seed}/{options.name}".encode()).digest())  # noqa: S311
        rates = options.rates
        self.backend = CountingBackend(None if rates is None else Pacer(rates, rng))
        self.care = LinkCare(
            options.budget,
            options.quiet_times,
            counted=lambda: sum(self._carried()),
            recall=self.folder.day,
            keep=self.folder.keep_day,
            now=datetime.now,
            sleep=self._sleep,
            say=say,
            hindered=self._hindered,
        )
        self.standing = Standing(
            self.folder.path / STATUS_FILE,
            supervisor=supervisor,
            counted=self._carried,
            today=lambda: self.care.today,
        )
        self.backend.step = lambda: self.standing.within(0.0)
        self.transfer = Transfer(
            url,
            self.backend,
            rng=rng if rates is not None else Random(),  # noqa: S311
            say=say,
            patience=Patience(options.stalled_after_s, options.give_up_after_s),
            tls=_tls(options.ca_file),
            sleep=self._sleep,
            hindered=self._hindered,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.folder.keep_link(*self._carried())
        if self._stats is not None:
            write_atomic(self._stats, json.dumps(self._counts()).encode(), fsync=False, mode=0o644)
        self.transfer.close()
        self.standing.end("" if kind is None else "interrupted" if kind is KeyboardInterrupt else str(error))
        self.folder.close()

    def _sleep(self, seconds: float) -> None:
        self.standing.within(seconds)
        time.sleep(seconds)

    def _hindered(self, why: str) -> None:
        self.standing.hindered(why)

    def _carried(self) -> tuple[int, int]:
        """Bytes sent and received by all processes of this folder."""
        kernel = self.backend.kernel()
        return self._before[0] + kernel.sent, self._before[1] + kernel.received

    def _counts(self) -> dict[str, object]:
        kernel = self.backend.kernel()
        return {
            "kernel": {"sent": kernel.sent, "received": kernel.received},
            "process": {"sent": self.backend.process.sent, "received": self.backend.process.received},
            "connections": self.backend.connections,
        }


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--ca-file {ca_file}: {error}") from None
