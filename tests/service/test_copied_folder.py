"""A client's folder that is copied, as an image of a device is, while nobody runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from thinwire.operator.fleet import client_name
from thinwire.operator.processes import Child
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import RunSettings

from .conftest import DEADLINE_S, Service


@pytest.mark.long
def test_copies_that_never_run_at_the_same_time_are_told_apart(service: Service, digits_model: Path) -> None:
    name = client_name(0)
    here, copy = service.folder / name, service.folder / "copy"

    def serves(run: str) -> int:
        service.start_run(digits_model, RunSettings(name=run, rounds=1, cohort=1))
        return joined().process.wait(DEADLINE_S)

    def joined() -> Child:
        child = service.join(name, invite, ("--task", "digits", "--split", "iid"))
        service.children.forget(child)  # it may fail
        return child

    invite = service.write_invite(name, 5)
    assert serves("first") == Exit.OK
    shutil.copytree(here, copy)
    assert serves("second") == Exit.OK
    shutil.move(here, service.folder / "kept")
    shutil.copytree(copy, here)
    copied = joined()
    assert copied.process.wait(DEADLINE_S) == Exit.REFUSED
    assert "client-doubled" in copied.tail()
    assert "revoke the client, and join with a new invite" in copied.tail()
    # The other goes on; and the copy, if it is the one that is left, by the way that it was told.
    shutil.rmtree(here)
    shutil.move(service.folder / "kept", here)
    assert serves("third") == Exit.OK
    shutil.rmtree(here)
    shutil.copytree(copy, here)
    service.operator.revoke(name)
    invite = service.write_invite(name)
    assert serves("fourth") == Exit.OK
