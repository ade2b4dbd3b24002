"""The application: `create_app(settings)`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import structlog
from fastapi import FastAPI

from thinwire.protocol.reasons import ProblemError

from . import documentation, page, problems
from .accounting import Accounting
from .api import enrolment, exchanges, health, payloads, runs, uploads
from .coordinator import Coordinator
from .settings import ServeSettings
from .throttle import Throttle, Throttling

DESCRIPTION = """Federated learning over thin wires. Clients enrol, register for tasks, fetch payloads, answer.
Control messages are JSON or msgpack (`Content-Type`, `Accept`); arrays travel as bytes. Every error is a `Problem`."""

_log = structlog.get_logger("thinwire.coordinator")


def create_app(settings: ServeSettings) -> FastAPI:
    """The coordinator as an ASGI application; it starts and stops with the server's lifespan.

    `app.state.coordinator` is the `Coordinator`. Raises: OSError where the data folder cannot be used.
    """
    coordinator = Coordinator(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            try:
                await coordinator.start()
            except (ProblemError, OSError) as error:
                # Said once, in words: whoever runs the application looks here, and requests are told `unavailable`.
                coordinator.failure = str(error)
                _log.error("cannot start", error=coordinator.failure)
            yield
        finally:
            await coordinator.stop()

    app = FastAPI(
        title="Thinwire coordinator",
        description=DESCRIPTION,
        version=version("thinwire"),
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.coordinator = coordinator
    app.state.throttle = throttle = Throttle(settings)
    # Routes are tried in this order: what clients ask again and again comes first.
    for router in (exchanges, uploads, payloads, enrolment, runs, health, page):
        app.include_router(router.router)
    problems.install(app)
    documentation.install(app)
    app.add_middleware(Throttling, throttle=throttle, access=coordinator.access)
    app.add_middleware(Accounting, ledger=coordinator.ledger)
    return app
