"""A device without an invite: it shows its code, waits, and is in once an operator has accepted; by real processes."""

from __future__ import annotations

import re
import signal

from typer.testing import CliRunner

from tests.coordinator.served import Served
from tests.edge_client.fleet import Fleet
from thinwire.edge_client.model import first_model
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.operator.cli.app import app
from thinwire.protocol.exit_codes import Exit


def _thinwire(coordinator: Served, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--data-dir", str(coordinator.data_dir)])
    assert done.exit_code == Exit.OK, done.output
    return done.output


def test_a_device_is_let_in_by_its_code_and_keeps_it_when_it_begins_again(coordinator: Served, fleet: Fleet) -> None:
    coordinator.run(dict(first_model(find_problem("digits"), 0)), method="fedavg", rounds=1, settings={}, cohort=1)
    first = fleet.join(coordinator.url, "one", "0/1", says="by the window")
    first.until("code: ")
    (code,) = re.findall(r"code: (\S{9})\.", first.lines[-1])
    assert first.end(signal.SIGTERM)[0] == Exit.INTERRUPTED
    again = fleet.join(coordinator.url, "one", "0/1", says="by the window")
    again.until(f"code: {code}.")
    listed = _thinwire(coordinator, "client", "pending")
    assert all(word in listed for word in (code, "one", "by the window", "127.0.0.1"))
    assert "may enrol: client, group default" in _thinwire(coordinator, "client", "accept", code)
    ended, said = again.end()
    assert ended == Exit.OK, said
    assert "round 1/1 train" in said
    assert not (fleet.folder / "one" / "asking").exists()
    _thinwire(coordinator, "client", "rename", "one", "window")
    shown = _thinwire(coordinator, "client", "show", "window")
    assert "one, called window: " in shown
    assert "accepted" in shown

    other = fleet.join(coordinator.url, "two", "0/1")
    other.until("code: ")
    (code,) = re.findall(r"code: (\S{9})\.", other.lines[-1])
    assert "is not let in" in _thinwire(coordinator, "client", "refuse", code)
    ended, said = other.end()
    assert (ended, "has refused to let this device in" in said) == (Exit.USAGE, True), said
