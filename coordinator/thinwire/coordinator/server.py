"""The coordinator as a process: socket, signals, the file that says where it listens."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import uvicorn

from thinwire.machine.files import write_atomic
from thinwire.machine.memory import give_back_large_memory
from thinwire.machine.supervision import Supervisor
from thinwire.protocol.places import ADDRESS_FILE
from thinwire.protocol.reasons import ProblemError

from .app import create_app
from .backing import LOCK_FILE
from .logs import log_from
from .service import Service
from .settings import ServeSettings
from .wire.connection import Terms, accept
from .wire.guard import Crowd, most_connections
from .wire.handshake import server_context
from .wire.stopping import StoppingServer

KEEP_ALIVE_S: Final = 660
"""Longer than any poll: a new connection costs a handshake, under TLS of 2 kB or more."""
GRACE_S: Final = 10
"""For requests that are being served when the process is told to stop."""
BACKLOG: Final = 2048
_log = structlog.get_logger("thinwire.coordinator")


class CannotServeError(Exception):
    """This machine or folder cannot; the text says why."""


class _Server(StoppingServer):
    """Lets parked polls go first."""

    def __init__(
        self, config: uvicorn.Config, service: Service, started: Callable[[], None], supervisor: Supervisor
    ) -> None:
        super().__init__(config)
        self._service = service
        self._announce = started
        self._supervisor = supervisor

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is loaded by now stays: looking through all of it for what could go takes 50 ms and more each time.
        gc.freeze()
        if self._service.failure:
            await self.shutdown(sockets)
            self.should_exit = True
        elif self.started:
            self._announce()
            self._supervisor.tell(READY="1")
            self._live()

    def _live(self) -> None:
        """A sign of life while the loop turns, without which nobody is answered."""
        if self._supervisor.beat_s is not None:
            self._supervisor.tell(WATCHDOG="1")
            asyncio.get_running_loop().call_later(self._supervisor.beat_s, self._live)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._supervisor.tell(STOPPING="1")
        self._service.end_waiting()
        await super().shutdown(sockets)


def serve(settings: ServeSettings, announce: Callable[[str], None]) -> bool:
    """Serves until a signal comes; `announce` is called with the URL once requests are taken. False where the
    coordinator could not start (its log says why).

    Raises: `CannotServeError`.
    """
    supervisor = Supervisor.of(os.environ)
    log_from(settings.log_level, settings.log_format)
    give_back_large_memory()
    with _alone(settings.data_dir), _listening(settings) as listener:
        url = _url(settings, listener)
        address = settings.data_dir / ADDRESS_FILE
        try:
            app = create_app(settings)
        except OSError as error:
            raise CannotServeError(f"the folder {settings.data_dir} cannot be used: {error.strerror}") from None
        except ProblemError as error:
            raise CannotServeError(error.detail) from None
        service: Service = app.state.service

        def started() -> None:
            write_atomic(address, json.dumps({"url": url, "pid": os.getpid()}).encode(), fsync=False)
            _log.info("listening", url=url, folder=str(settings.data_dir))
            announce(url)

        config = uvicorn.Config(
            app,
            http=partial(accept, _terms(service, settings)),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=bool(settings.proxies.names),
            forwarded_allow_ips=sorted(settings.proxies.names),
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        server = _Server(config, service, started, supervisor)
        try:
            server.run(sockets=[listener])
        finally:
            address.unlink(missing_ok=True)
        if service.failure:
            raise CannotServeError(f"the coordinator cannot start: {service.failure}")
        return server.started


def _terms(service: Service, settings: ServeSettings) -> Terms:
    per_address, proxies = settings.max_connections_per_address, settings.proxies
    crowd = Crowd(most=most_connections(), per_address=per_address, trusted=proxies)
    tls = None
    if settings.certificate is not None and settings.key is not None:
        try:
            tls = server_context(settings.certificate, settings.key)
        except (OSError, ssl.SSLError) as error:
            raise CannotServeError(f"certificate {settings.certificate}, key {settings.key}: {error}") from None
    return Terms(service.ledger, crowd, settings.stalled_after_s, tls)


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """No second coordinator serves this folder."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / LOCK_FILE).open("w")
    except OSError as error:
        raise CannotServeError(f"the folder {data_dir} cannot be used: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotServeError(f"another coordinator serves the folder {data_dir}") from None
        yield


@contextlib.contextmanager
def _listening(settings: ServeSettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(BACKLOG)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            if error.errno == errno.EADDRINUSE:
                raise CannotServeError(f"{where} is in use: choose another --port, or 0 for a free one") from None
            raise CannotServeError(f"cannot listen at {where}: {error.strerror or error}") from None
        yield listener


_LOOPBACKS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 listened at, where the settings say so
"""Where a program of this machine finds a coordinator that listens at all its addresses: none of them is a name."""


def _url(settings: ServeSettings, listener: socket.socket) -> str:
    scheme = "http" if settings.certificate is None else "https"
    host = _LOOPBACKS.get(settings.host, settings.host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
