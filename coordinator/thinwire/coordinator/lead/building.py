"""The rooms of leading, put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thinwire.coordinator.decoding.coded import Decode
from thinwire.coordinator.objects.objects import Objects
from thinwire.coordinator.records.answers import Answers
from thinwire.coordinator.records.bills import Bills
from thinwire.coordinator.records.carried import Carried
from thinwire.coordinator.records.database import Database
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.leases import Lease, Leases
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.payloads import Payloads
from thinwire.coordinator.records.presence import Presence
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.tasks import Tasks
from thinwire.coordinator.records.troubles import Troubles
from thinwire.coordinator.runs.definitions import Definitions
from thinwire.coordinator.runs.tally import Tally
from thinwire.coordinator.signals.signals import Signals
from thinwire.machine.workers import Workers

from .asking import Asking
from .budgets import Budgets
from .clock import Clock
from .closing import Closing
from .deciding import Deciding
from .hearing import Hearing
from .leader import Leader
from .leadership import Leadership
from .moving import Moving
from .opening import Opening
from .repairing import Repairing
from .restoring import Restoring


@dataclass(frozen=True, slots=True)
class Terms:
    """`holder`: this process's name; `spool`: the folder in which contributions that a reducer keeps lie while their
    exchange is open; `present_for_s`: a client counts as present this long after its last request; `durable`: accepted
    answers outlive the machine; `lease_s`: what a lease is good for, None where this process is alone.
    """

    holder: str
    spool: Path
    present_for_s: float
    durable: bool = False
    lease_s: float | None = None


def build_leadership(
    database: Database,
    ledger: Ledger,
    objects: Objects,
    signals: Signals,
    workers: Workers,
    definitions: Definitions,
    troubles: Troubles,
    tally: Tally,
    clock: Clock,
    terms: Terms,
    decode: Decode,
) -> Leadership:
    """What leads the runs of this database."""
    runs, exchanges = Runs(database), Exchanges(database)
    tasks, answers = Tasks(database), Answers(database)
    budgets = Budgets(ledger, Bills(database), workers, clock)
    opening = Opening(exchanges, budgets, objects, workers, clock, terms.spool)
    asking = Asking(
        exchanges, tasks, Presence(database), budgets, objects, signals, workers, clock, terms.present_for_s
    )
    deciding = Deciding(
        tasks, answers, troubles, tally, objects, signals, workers, clock, decode, durable=terms.durable
    )
    carried = Carried(database)
    closing = Closing(runs, exchanges, carried, Payloads(database), ledger, tally, objects, signals, workers, clock)
    repairing = Repairing(objects)
    restoring = Restoring(exchanges, tasks, carried, answers, definitions, opening, deciding, repairing, workers, clock)
    moving = Moving(runs, definitions, opening, asking, closing, signals, workers, clock)

    def leader(lease: Lease) -> Leader:
        hearing = Hearing(lease.run, runs, tasks, answers, troubles, tally, deciding, signals, clock)
        return Leader(lease, runs, exchanges, troubles, restoring, hearing, moving, signals, clock)

    return Leadership(runs, Leases(database), leader, signals, clock, terms.holder, terms.lease_s)
