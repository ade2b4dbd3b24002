"""`thinwire doctor`: what is wrong between here and the coordinator, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict

import httpx

from thinwire.machine.reach import MARKS, Finding, wrong
from thinwire.machine.text import printable
from thinwire.operator.access import NoAddressError, find_login, kept_logins
from thinwire.operator.console import say
from thinwire.operator.doctor import examine_coordinator, examine_folder
from thinwire.protocol.exit_codes import Exit

from .options import Address, AsFormat, Format, print_json, with_options


@with_options
def doctor(at: Address, format_: AsFormat = Format.TABLE) -> None:
    """Look at name, port, certificate, proxy, clock, token, version and events; at folder, disk and database here."""
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        if format_ is Format.TABLE:
            say(f"{MARKS[finding.state]}{finding.check}: {printable(finding.said)}")
            if finding.cure:
                say(f"       {printable(finding.cure)}")

    if at.data_dir.is_dir():
        for finding in examine_folder(at.data_dir):
            tell(finding)
    try:
        url, token, ca_file = find_login(at.url, at.token_file, at.data_dir, at.ca_file, kept_logins())
        for finding in examine_coordinator(url, token, ca_file):
            tell(finding)
    except (NoAddressError, httpx.InvalidURL, OSError) as error:
        tell(wrong("address", str(error), "thinwire login URL"))
    if format_ is Format.JSON:
        print_json({"findings": [asdict(finding) for finding in found]})
    if any(finding.state == "wrong" for finding in found):
        raise SystemExit(int(Exit.FAILED))
