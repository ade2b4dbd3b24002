"""The relay as a process: its socket, signals, and what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from typing import Final

import structlog
import uvicorn

from thinwire.coordinator.logs import log_from
from thinwire.coordinator.wire.stopping import StoppingServer
from thinwire.machine.files import write_atomic

from .app import Relay, create_app
from .link import Link
from .payloads import Payloads
from .settings import RelaySettings
from .uploads import Uploads

_KEEP_ALIVE_S: Final = 660
_GRACE_S: Final = 3
"""For requests that rest: a poll is asked again."""
_TELLS_EACH_S: Final = 60.0
_log = structlog.get_logger("thinwire.relay")


class CannotRelayError(Exception):
    """This machine or folder cannot; the text says why."""


class _Server(StoppingServer):
    """Says where it listens, and now and then what it has relayed."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None], tell: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce
        self._tell = tell
        self._telling: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup()
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            scheme = "https" if self.config.is_ssl else "http"
            self._announce(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
            self._telling = asyncio.create_task(self._tell_again())

    async def _tell_again(self) -> None:
        while True:
            await asyncio.sleep(_TELLS_EACH_S)
            self._tell()

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        if self._telling is not None:
            self._telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._telling
        self._tell()
        await super().shutdown()


def run_relay(url: str, settings: RelaySettings, announce: Callable[[str], None]) -> bool:
    """Relays until a signal comes; `announce` is called with its own URL once devices can ask. False where it could not
    start. Raises: `CannotRelayError`.
    """
    log_from(settings.log_level, settings.log_format)
    try:
        tls = None if settings.ca_file is None else ssl.create_default_context(cafile=str(settings.ca_file))
        link = Link(url, tls=tls, stalled_after_s=settings.stalled_after_s)
        payloads = Payloads(link, settings.data_dir / "payloads", settings.cache_bytes)
        uploads = Uploads(link, settings.data_dir / "uploads", settings.max_upload_bytes)
    except (OSError, ssl.SSLError) as error:
        raise CannotRelayError(str(error)) from None
    relay, told = Relay(link, payloads, uploads), {"devices": -1}

    def tell() -> None:
        up, down = link.crossed()
        said = {
            "devices": len(relay.told), "link_up_bytes": up, "link_down_bytes": down, "payloads": payloads.fetched,
            "payload_bytes_received": payloads.received, "payload_bytes_given": payloads.given,
        }  # fmt: skip
        if said != told:
            told.update(said)
            _log.info("relayed", **said)
        if settings.stats is not None:
            write_atomic(settings.stats, json.dumps(said).encode(), fsync=False, mode=0o644)

    config = uvicorn.Config(
        create_app(relay), host=settings.host, port=settings.port, ws="none", lifespan="on", log_config=None,
        access_log=False, server_header=False, date_header=False, timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S, ssl_certfile=settings.certificate, ssl_keyfile=settings.key, backlog=2048,
    )  # fmt: skip
    server = _Server(config, announce, tell)
    try:
        server.run()
    except SystemExit:  # uvicorn's own, where it cannot listen
        raise CannotRelayError(f"cannot listen at {settings.host}:{settings.port}") from None
    return server.started
