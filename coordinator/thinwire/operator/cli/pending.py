"""`thinwire client pending`, `accept`, `refuse`: devices without an invite that ask to be let in."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from pydantic import ValidationError

from thinwire.operator import requests
from thinwire.operator.console import console, in_time, say
from thinwire.operator.sheet import Sheet
from thinwire.protocol.command_options import invalid
from thinwire.protocol.exit_codes import Exit

from .options import Address, AsFormat, Format, fail, operator, print_json, with_options

Code = Annotated[str, typer.Argument(metavar="CODE", help="what the device itself shows")]


class DeviceRole(StrEnum):
    """What a device may do. People come by invites."""

    CLIENT = "client"
    EVALUATOR = "evaluator"


@with_options
def pending(*, at: Address, format_: AsFormat = Format.TABLE) -> None:
    """Devices without an invite that wait to be let in. What they say proves nothing; compare the code."""
    with operator(at) as coordinator:
        found = coordinator.send(requests.pending())
    if format_ is Format.JSON:
        print_json(found)
        return
    columns = ("code", "name", "from", "since", "it says")
    shown = Sheet(None, columns, text=columns)
    for one in found.pending:
        shown.add_row(one.code, one.name, one.address, in_time(one.asked_at), one.says)
    console().print(shown)


@with_options
def accept(
    code: Code,
    *,
    group: Annotated[str, typer.Option(help="group that the client belongs to")] = "default",
    role: Annotated[DeviceRole, typer.Option(help="client or evaluator")] = DeviceRole.CLIENT,
    at: Address,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Let the device in that shows this code."""
    with operator(at) as coordinator:
        try:
            accepted = coordinator.accept(code, group=group, role=role.value)
        except ValidationError as error:
            fail(invalid(error), Exit.USAGE)
    if format_ is Format.JSON:
        print_json(accepted)
    else:
        say(f"{accepted.name}, which asks from {accepted.address}, may enrol: {role.value}, group {group}")


@with_options
def refuse(code: Code, *, at: Address) -> None:
    """Tell the device that shows this code that it is not let in."""
    with operator(at) as coordinator:
        coordinator.refuse(code)
    say(f"the device that shows {code} is not let in")
