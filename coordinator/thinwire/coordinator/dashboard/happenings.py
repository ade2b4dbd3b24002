"""Pages of what is wrong, what has happened, who changed what, and what it all cost."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from thinwire.coordinator.api.parts import of
from thinwire.coordinator.records.audit import Audit, Deed
from thinwire.coordinator.serve.activity import Activities, Kind, in_words
from thinwire.coordinator.serve.bill import Bill, Bills, Row
from thinwire.coordinator.serve.events import Events
from thinwire.coordinator.serve.problems import Problems
from thinwire.coordinator.wire.identity import require_token_to_read
from thinwire.coordinator.wire.listing import CSV

from .rendering import show
from .routing import page

DEEDS: Final = 100
_DAY_S: Final = 86_400
router = APIRouter(include_in_schema=False)


@page(router, "/problems")
async def problems(request: Request) -> Response:
    last = await of(request, Events).last_id()
    return show(request, "problems.html", await of(request, Problems).now(), last=last)


@page(router, "/activity")
async def activity(
    request: Request,
    kind: Kind | None = None,
    about: Annotated[str, Query(max_length=64)] = "",
    run: Annotated[str | None, Query(max_length=64)] = None,
    before: Annotated[float | None, Query(ge=0, le=1e11, description="of a run: lines from before this time")] = None,
) -> Response:
    last = await of(request, Events).last_id()
    activities = of(request, Activities)
    found = await (activities.latest(kind, about) if run is None else activities.of(run, before))
    return show(request, "activity.html", found, kind=kind, about=about, run=run, last=last)


@dataclass(frozen=True, slots=True)
class Told:
    """A deed with its number, and in words."""

    number: int
    deed: Deed
    said: str


@dataclass(frozen=True, slots=True)
class Deeds:
    """The newest first."""

    deeds: list[Told]


@page(router, "/audit")
async def audit(
    request: Request,
    about: Annotated[str, Query(max_length=64)] = "",
    before: Annotated[int | None, Query(ge=0, le=1 << 53)] = None,
) -> Response:
    require_token_to_read(request)
    found = await of(request, Audit).latest(DEEDS, before, about)
    view = Deeds([Told(number, deed, in_words(deed)) for number, deed in found])
    return show(request, "audit.html", view, about=about, more=len(found) == DEEDS)


@page(router, "/bill")
async def bill(request: Request, run: Annotated[str, Query(max_length=64)] = "") -> Response:
    return show(request, "bill.html", await _bill(request, run))


@page(router, "/bill.csv", "/bill/rows.csv")
async def bill_csv(request: Request, run: Annotated[str, Query(max_length=64)] = "") -> Response:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([field.name for field in fields(Row)])
    writer.writerows(astuple(row) for row in (await _bill(request, run)).rows)
    return Response(out.getvalue(), media_type=CSV)


async def _bill(request: Request, run: str) -> Bill:
    now = time.time()
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return await of(request, Bills).bill(run or None, int(now // _DAY_S), int(first.timestamp() // _DAY_S))
