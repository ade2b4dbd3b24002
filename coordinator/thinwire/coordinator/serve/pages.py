"""What the pages ask, built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from thinwire.coordinator.records.audit import Audit
from thinwire.coordinator.records.bills import Bills as BillRows
from thinwire.coordinator.records.database import Database
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.participation import Participation
from thinwire.coordinator.records.people import People as PeopleRows
from thinwire.coordinator.records.presence import Presence as PresenceRows
from thinwire.coordinator.records.progress import Progress
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.sessions import Sessions as SessionRows
from thinwire.coordinator.records.troubles import Troubles
from thinwire.coordinator.records.webhooks import Webhooks
from thinwire.coordinator.runs.definitions import Definitions
from thinwire.machine.workers import Workers

from .activity import Activities
from .attendance import Attendances
from .bill import Bills
from .machine import Machine
from .overview import Overviews
from .people import People
from .problems import Problems
from .reads import Reads
from .sessions import Sessions


@dataclass(frozen=True, slots=True)
class Pages:
    """`parts`: what endpoints take."""

    sessions: Sessions
    audit: Audit
    parts: tuple[object, ...]


def build_pages(
    database: Database,
    ledger: Ledger,
    reads: Reads,
    definitions: Definitions,
    troubles: Troubles,
    machine: Machine,
    workers: Workers,
    *,
    silent_after_s: float,
    called: Callable[[str], str],
) -> Pages:
    """Over these rows. `silent_after_s`: seconds without a request after which a client counts as gone. `called`: what
    people call the client of a name.
    """
    runs, exchanges, progress = Runs(database), Exchanges(database), Progress(database)
    participation, bills, people = Participation(database), BillRows(database), PeopleRows(database)
    attendances = Attendances(runs, exchanges, participation, silent_after_s=silent_after_s, called=called)
    overviews = Overviews(runs, progress, reads, attendances, definitions)
    sessions, audit = Sessions(SessionRows(database)), Audit(database)
    problems = Problems(
        runs, exchanges, participation, progress, PresenceRows(database), Webhooks(database), troubles, machine,
        workers,
        silent_after_s=silent_after_s, called=called,
    )  # fmt: skip
    activities = Activities(runs, progress, people, ledger, audit, attendances, called)
    parts = (
        attendances, overviews, sessions, audit, problems, activities, Bills(bills, runs, overviews),
        People(people, bills, silent_after_s=silent_after_s),
    )  # fmt: skip
    return Pages(sessions, audit, parts)
