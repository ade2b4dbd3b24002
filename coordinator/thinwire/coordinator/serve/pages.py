"""What the pages ask, built."""

from __future__ import annotations

from dataclasses import dataclass

from thinwire.coordinator.records.audit import Audit
from thinwire.coordinator.records.database import Database
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.participation import Participation
from thinwire.coordinator.records.progress import Progress
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.sessions import Sessions as SessionRows
from thinwire.coordinator.runs.definitions import Definitions

from .attendance import Attendances
from .overview import Overviews
from .reads import Reads
from .sessions import Sessions


@dataclass(frozen=True, slots=True)
class Pages:
    """`parts`: what endpoints take."""

    sessions: Sessions
    audit: Audit
    parts: tuple[object, ...]


def build_pages(database: Database, reads: Reads, definitions: Definitions, *, silent_after_s: float) -> Pages:
    """Over these rows. `silent_after_s`: seconds without a request after which a client counts as gone."""
    runs = Runs(database)
    attendances = Attendances(
        runs, Exchanges(database), Participation(database), silent_after_s=silent_after_s
    )  # fmt: skip
    overviews = Overviews(runs, Progress(database), reads, attendances, definitions)
    sessions, audit = Sessions(SessionRows(database)), Audit(database)
    return Pages(sessions, audit, (attendances, overviews, sessions, audit))
