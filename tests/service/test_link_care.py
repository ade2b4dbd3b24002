"""A client whose link costs money or is needed by others: what may not cross now is not begun."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import RunSettings

from .conftest import Service, interrupt, until

BUDGET = 200_000
SETTINGS = RunSettings(name="thrift", rounds=50, cohort=1)


def _said(service: Service, text: str) -> bool:
    return text in (service.folder / "logs" / "client-00.log").read_text()


def _carried(service: Service, *options: str, says: str) -> int:
    """Bytes both ways of a client that is interrupted once it has said this."""
    child = service.join_digits(0, 1, *options)
    until(lambda: _said(service, says), service.children)
    assert interrupt(child) == Exit.INTERRUPTED
    service.children.forget(child)
    return sum(service.kernel("client-00"))


def test_a_day_costs_what_it_may_whichever_process_spends_it(service: Service, digits_model: Path) -> None:
    service.start_run(digits_model, SETTINGS)
    options = ("--daily-bytes", str(BUDGET))
    first = _carried(service, *options, says="of today are used up")
    # A round costs less than half of it, so at least one was made.
    assert BUDGET / 2 < first <= BUDGET + 2_000
    (service.folder / "logs" / "client-00.log").unlink()
    again = _carried(service, *options, says="of today are used up")
    assert first + again <= BUDGET + 2_000


def test_in_quiet_hours_nothing_begins(service: Service, digits_model: Path) -> None:
    service.start_run(digits_model, SETTINGS)
    now = datetime.now()
    hours = f"{now - timedelta(minutes=2):%H:%M}-{now + timedelta(hours=2):%H:%M}"
    assert _carried(service, "--quiet-hours", hours, says="quiet hours; waiting until") < 5_000
