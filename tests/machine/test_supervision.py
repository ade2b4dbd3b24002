"""What is said to a service manager, over its real kind of socket, and that a sign of life is one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from thinwire.machine.supervision import Pulse, Supervisor


@pytest.mark.parametrize("abstract", [False, True])
def test_facts_arrive_as_the_manager_reads_them(abstract: bool, tmp_path: Path) -> None:
    where = f"@thinwire-{os.getpid()}-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + where[1:] if abstract else where)
        Supervisor(where).tell(READY="1", STATUS="waits\nfor a task")
        assert manager.recv(1000) == b"READY=1\nSTATUS=waits for a task"


def test_the_environment_is_read_once_and_not_handed_on() -> None:
    variables = {"NOTIFY_SOCKET": "/nobody", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    found = Supervisor.of(variables)
    assert variables == {"HOME": "/"}
    assert (found.watchdog_s, found.beat_s) == (30, 10)
    found.tell(READY="1")  # nobody listens there; that is no matter of the work


@pytest.mark.parametrize("variables", [{}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}])
def test_without_a_watchdog_of_its_own_no_sign_of_life_is_due(variables: dict[str, str]) -> None:
    found = Supervisor.of(dict(variables))
    assert found.beat_s is None
    found.tell(READY="1")


def test_who_says_nothing_for_longer_than_it_said_gives_no_sign_of_life() -> None:
    now, beats = [0.0], []
    pulse = Pulse(lambda: beats.append(now[0]), now_s=lambda: now[0])
    pulse.within(100)
    for at in (0.0, 99.0, 100.0, 101.0, 500.0):
        now[0] = at
        pulse.look()
    assert beats == [0, 99, 100]
    pulse.within(10)
    assert pulse.look(), "it is heard of again"
