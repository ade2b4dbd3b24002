"""`thinwire problems`: what stops runs, or soon may, and what to do about it."""

from __future__ import annotations

from thinwire.machine.text import printable
from thinwire.operator.console import in_time, say
from thinwire.protocol.messages import ProblemList

from .options import Address, AsFormat, Format, operator, print_json, with_options


@with_options
def problems(at: Address, format_: AsFormat = Format.TABLE) -> None:
    """What stops runs, or soon may, the worst first, each with its cure."""
    with operator(at) as coordinator:
        found = coordinator.ask("GET", "/v1/problems", ProblemList)
    if format_ is Format.JSON:
        print_json(found)
        return
    for problem in found.problems:
        say(f"{problem.severity}: {printable(problem.said)} (since {in_time(problem.since)})")
        say(f"  {printable(problem.command or problem.cure)}")
    if not found.problems:
        say("nothing is wrong")
