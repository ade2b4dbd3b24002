"""A view as a page, or as JSON: the same view at the same address."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from fastapi import Request, Response
from pydantic import TypeAdapter

from thinwire.coordinator.serve.attendance import old
from thinwire.coordinator.serve.labels import Labels
from thinwire.coordinator.wire.identity import asker
from thinwire.machine.quantities import in_bytes
from thinwire.machine.text import printable
from thinwire.methods.rounds import ACCURACY, accuracy_of, is_lower_better
from thinwire.protocol.encoding import JSON

from . import static

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "vary": "accept, cookie",
}
TWIN: Final = ".json"
_ADAPTERS: Final[dict[type[Any], TypeAdapter[Any]]] = {}
NAVIGATION: Final = (
    ("/", "Runs"), ("/clients", "Clients"), ("/invites", "Invites"), ("/problems", "Problems"), ("/bill", "Bill"),
    ("/activity", "Activity"), ("/audit", "Audit"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. `name`: in words, "" for nobody with a token; `operates`: may change something."""

    name: str
    operates: bool


def viewer_of(request: Request) -> Viewer:
    """Of a request that has been let through."""
    who = asker(request)
    if who.owner:
        return Viewer("operator", operates=True)
    return Viewer("" if who.caller is None else who.caller.name, operates=who.operates)


def wants_json(request: Request) -> bool:
    """Whether its address or its `Accept` asks for the twin."""
    if request.url.path.endswith(TWIN):
        return True
    accept = request.headers.get("accept", "")
    return JSON in accept and "text/html" not in accept


def show(request: Request, template: str, view: Any, status: int = 200, **also: Any) -> Response:
    """The view: a page made of `view` and what else only the page needs, or JSON of it alone."""
    if wants_json(request):
        body = _adapter(type(view)).dump_json(view, exclude_none=True)
        return Response(body, status, {"cache-control": "no-store", "vary": "accept, cookie"}, JSON)
    page = environment().get_template(template).render(
        view=view, viewer=viewer_of(request), path=request.url.path, query=request.url.query, twin=_twin(request),
        here=str(request.base_url).rstrip("/"), now=time.time(), navigation=NAVIGATION, version=version("thinwire"),
        called=_called(request), **also,
    )  # fmt: skip
    return Response(page, status, dict(HEADERS), "text/html")


def _called(request: Request) -> Callable[[str], str]:
    """What people call the client of a name; while starting and stopping its name."""
    labels = request.app.state.parts.get(Labels)
    return labels.called if isinstance(labels, Labels) else str


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Kept, since it takes longer to make one than to use it."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _twin(request: Request) -> str:
    """The address of the page's JSON."""
    query = f"?{request.url.query}" if request.url.query else ""
    return ("/runs" if request.url.path == "/" else request.url.path) + TWIN + query


@cache
def environment() -> Environment:
    """Jinja2, loaded when the first page is asked for: most coordinators never show one."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("thinwire.coordinator.dashboard"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {
        "bytes": in_bytes, "share": in_share, "figure": in_figure, "span": in_span, "old": old,
        "moment": in_moment, "iso": in_iso,
        "printable": printable, "measured": measured, "best": best, "judged_by": judged_by,
        "count": lambda value: f"{value:,}".replace(",", "\u202f"),
    }  # fmt: skip
    made.globals["static"] = static.address
    return made


def measured(rounds: Sequence[Mapping[str, Any]], score: str) -> list[tuple[int, float]]:
    """Round and score of each round, as `Round.plain` has them, whose model was measured by it."""
    found = [(one["round"], one.get(score, one["scores"].get(score))) for one in rounds]
    return [(number, value) for number, value in found if value is not None]


def best(values: Iterable[float], score: str) -> float:
    """Of values of this score; there is one."""
    return min(values) if is_lower_better(score) else max(values)


def judged_by(metrics: Mapping[str, float], score: str) -> float | None:
    """An exchange's figure of this score."""
    return accuracy_of(metrics) if score == ACCURACY else metrics.get(score)


def in_share(part: float, whole: float) -> str:
    """`12 %`; nothing where there is no whole."""
    return "" if not whole else f"{100 * part / whole:.{1 if part / whole < 0.1 else 0}f}\u202f%"


def in_figure(value: float | None) -> str:
    """Four digits behind the point; a dash for none."""
    return "–" if value is None else f"{value:.4f}"


def in_span(seconds: float | None) -> str:
    """`8.2 s`, `4 min 10 s`, `3 h 20 min`, `2 d 4 h`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    for big, small, a, b in ((60, 1, "min", "s"), (3600, 60, "h", "min"), (86_400, 3600, "d", "h")):
        if seconds < big * (60 if big < 3600 else 24) or big == 86_400:
            whole, rest = divmod(round(seconds / small), big // small)
            return f"{whole} {a} {rest} {b}" if rest else f"{whole} {a}"
    return ""


def in_moment(at: float | None) -> str:
    """A time in UTC, to the minute; the page's script says it in the reader's own."""
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def in_iso(at: float) -> str:
    """The same for machines."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
