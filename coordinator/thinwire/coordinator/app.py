"""The application: `create_app(settings)`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from . import documentation, page, problems
from .accounting import Accounting
from .api import enrolment, exchanges, health, payloads, runs, uploads
from .coordinator import Coordinator
from .settings import ServeSettings
from .throttle import Throttle, Throttling

DESCRIPTION = """Federated learning over thin wires. Clients enrol, register for tasks, fetch payloads, answer.
Control messages are JSON or msgpack (`Content-Type`, `Accept`); arrays travel as bytes. Every error is a `Problem`."""


def create_app(settings: ServeSettings) -> FastAPI:
    """The coordinator as an ASGI application; it starts and stops with the server's lifespan.

    `app.state.coordinator` is the `Coordinator`. Raises: OSError where the data folder cannot be used.
    """
    coordinator = Coordinator(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            await coordinator.start()
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
    for router in (enrolment, exchanges, payloads, uploads, runs, health, page):
        app.include_router(router.router)
    problems.install(app)
    documentation.install(app)
    app.add_middleware(Throttling, throttle=throttle, access=coordinator.access)
    app.add_middleware(Accounting, ledger=coordinator.ledger)
    return app
