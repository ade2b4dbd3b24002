"""The application: `create_app(settings)`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import structlog
from fastapi import FastAPI

from thinwire.protocol.reasons import ProblemError

from .api import client_logs, enrolment, events, exchanges, health, payloads, pending, runs, uploads, webhooks
from .api import problems as problem_list
from .dashboard import pages
from .objects.problems import storage_problem
from .records.audit import Deed
from .service import Service
from .settings import ServeSettings
from .wire import documentation, problems
from .wire.auditing import Auditing
from .wire.charging import Charging
from .wire.hosts import HostCheck, Hosts
from .wire.identity import Caller, Identity
from .wire.throttle import Rates, Throttle, Throttling

DESCRIPTION = """Federated learning over thin wires. Clients enrol, register for tasks, fetch payloads, answer.
Control messages are JSON or msgpack (`Content-Type`, `Accept`); arrays travel as bytes. Every error is a `Problem`."""

_log = structlog.get_logger("thinwire.coordinator")


def create_app(settings: ServeSettings) -> FastAPI:
    """The coordinator as an ASGI application; it starts and stops with the server's lifespan.

    `app.state.service` is the `Service`, `app.state.parts` what its endpoints take. Raises: OSError where the data
    folder cannot be used.
    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            try:
                await service.start()
            except (ProblemError, OSError) as error:
                # Said once, in words: whoever runs the application looks here, and requests are told `unavailable`.
                service.failure = str(error)
                _log.error("cannot start", error=service.failure)
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="Thinwire coordinator",
        description=DESCRIPTION,
        version=version("thinwire"),
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service, app.state.parts = service, service.parts
    rates = settings.max_requests_per_client, settings.max_requests_per_address, settings.max_failures_per_address
    throttle, access = Throttle(Rates(*rates), settings.proxies), service.enrolment
    # Routes are tried in this order: what clients ask again and again comes first.
    of_clients = (exchanges, uploads, payloads, enrolment, client_logs, pending)
    routers = (*of_clients, runs, events, problem_list, webhooks, health, pages)
    for router in routers:
        app.include_router(router.router)
    app.state.guessed = throttle.failed
    problems.install(app, guessed=throttle.failed, failed=storage_problem)
    documentation.install(app)

    def used(caller: Caller) -> None:
        access.used(caller.name)

    async def token_of(cookie: bytes) -> bytes | None:
        try:
            return await service.pages.sessions.token_of(cookie)
        except ProblemError:  # while starting and stopping
            return None

    async def tell(**deed: Any) -> None:
        try:
            await service.pages.audit.add(Deed(**deed))
        except ProblemError as error:
            _log.error("not audited", reason=error.reason, **deed)

    # The last one is the outermost.
    app.add_middleware(Throttling, throttle=throttle)
    app.add_middleware(Auditing, tell=tell)
    app.add_middleware(
        Identity, find=access.find, is_owner=access.owner.is_owner, used=used, public_read=settings.public_read,
        find_elsewhere=access.find_elsewhere, token_of=token_of,
    )  # fmt: skip
    app.add_middleware(HostCheck, hosts=Hosts(settings.hosts, settings.proxies))
    app.add_middleware(Charging)
    return app
