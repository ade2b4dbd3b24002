"""The application: `create_app(settings)`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import structlog
from fastapi import FastAPI

from thinwire.protocol.reasons import ProblemError

from . import page
from .api import enrolment, exchanges, health, payloads, runs, uploads
from .coordinator import Coordinator
from .objects.problems import storage_problem
from .settings import ServeSettings
from .wire import documentation, problems
from .wire.charging import Charging
from .wire.hosts import HostCheck, Hosts
from .wire.identity import Identity
from .wire.throttle import Rates, Throttle, Throttling

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
        docs_url=None,
        redoc_url=None,
    )
    app.state.coordinator = coordinator
    rates = settings.max_requests_per_client, settings.max_requests_per_address, settings.max_failures_per_address
    throttle, access = Throttle(Rates(*rates), settings.proxies), coordinator.access
    # Routes are tried in this order: what clients ask again and again comes first.
    for router in (exchanges, uploads, payloads, enrolment, runs, health, page):
        app.include_router(router.router)
    problems.install(app, guessed=throttle.failed, failed=storage_problem)
    documentation.install(app)
    # The last one is the outermost.
    app.add_middleware(Throttling, throttle=throttle)
    app.add_middleware(
        Identity, find=access.find, is_owner=access.is_owner, used=access.used, public_read=settings.public_read
    )
    app.add_middleware(HostCheck, hosts=Hosts(settings.hosts, settings.proxies))
    app.add_middleware(Charging)
    return app
