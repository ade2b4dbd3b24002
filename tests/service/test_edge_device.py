"""A client where devices are: behind a proxy, under a service manager, on IPv6, with a root that is read-only, with
little memory.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest

from tests import forked
from tests.certificates import signed
from tests.connect_proxy import ConnectProxy
from thinwire.edge_client.standing import STATUS_FILE
from thinwire.operator import lab
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import RunSettings

from .conftest import DEADLINE_S, Service, interrupt, until

SETTINGS = RunSettings(name="edge", rounds=1, cohort=1, evaluate=False)
NAME = "client-00"
READ_ONLY = Path(__file__).with_name("read_only.py")
READ_ONLY_REFUSED = 77
HUNGRY = """
import torch
from torch import nn
from thinwire.edge_client.data import Data

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        # Eight examples, which the rehearsal has, take a megabyte; two hundred, six hundred and more.
        torch.zeros(len(x), len(x), 4096).sum()
        return self.layer(x)

def model():
    return Model()

def data(client):
    rows, targets = torch.zeros(256, 4), torch.zeros(256, dtype=torch.int64)
    return Data((rows, targets), (rows[:8], targets[:8]))
"""


def _finished(service: Service, run: str) -> None:
    until(lambda: service.view(run).state == "finished", service.children)
    until(service.clients_have_ended, service.children)
    assert service.view(run).outcome == "completed"


def _status(folder: Path, *options: str) -> tuple[int, str]:
    done = forked.run(["-m", "thinwire.edge_client", "status", "--data-dir", str(folder), *options], timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("host", "named"),
    [("127.0.0.1", "coordinator.example"), ("::1", "[2001:db8::7]")],
    ids=["IPv4", "IPv6"],
)
def test_it_takes_part_through_a_proxy_that_wants_a_password_with_the_certificate_of_a_private_authority(
    tmp_path: Path, digits_model: Path, host: str, named: str
) -> None:
    """Of either kind of addresses; the coordinator is one that this machine could not reach by itself."""
    if ":" in host:
        require_ipv6()
    certificate = signed(tmp_path, named.strip("[]"), "localhost", host)
    options = ("--certificate", str(certificate.chain), "--key", str(certificate.key), "--host", host)
    with ConnectProxy((host, 0), "ward-3", "p@ss:word", host) as proxy:
        at = f"[{host}]" if ":" in host else host
        environment = {**lab.ENVIRONMENT, "HTTPS_PROXY": f"http://ward-3:p%40ss%3Aword@{at}:{proxy.port}"}
        options += ("--allowed-hosts", named)
        with Service(tmp_path, *options, ca_file=certificate.authority, environment=environment) as service:
            service.serve()
            proxy.target = (host, service.port)
            run = service.start_run(digits_model, SETTINGS).id
            service.join_digits(0, 1, url=f"https://{named}:{service.port}")
            _finished(service, run)
            assert set(proxy.asked) == {f"{named}:{service.port}"}
            assert proxy.refused == 0
            # The client's own count holds what the tunnel cost besides.
            assert sum(service.kernel(NAME)) > 0
        assert "p@ss" not in (tmp_path / "logs" / f"{NAME}.log").read_text()


def require_ipv6() -> None:
    if not socket.has_ipv6 or not Path("/proc/sys/net/ipv6").exists():
        pytest.skip("this machine has no IPv6")


def test_both_sides_speak_ipv6(tmp_path: Path, digits_model: Path) -> None:
    require_ipv6()
    with Service(tmp_path, "--host", "::1") as service:
        service.serve()
        assert service.url.startswith("http://[::1]:")
        run = service.start_run(digits_model, SETTINGS).id
        service.join_digits(0, 1)
        _finished(service, run)


def test_its_own_folder_is_all_that_it_writes_to(service: Service, digits_model: Path, tmp_path: Path) -> None:
    run = service.start_run(digits_model, SETTINGS).id
    invite, state = service.write_invite(NAME), tmp_path / "state"
    state.mkdir()
    words = ["join", service.url, "--invite-file", str(invite), "--name", NAME, "--task", "digits"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = forked.start([str(READ_ONLY), str(state), *words, "--data-dir", str(state)], output.fileno())
    try:
        code = process.wait(120)
    finally:
        process.kill()
    if code == READ_ONLY_REFUSED:
        pytest.skip(log.read_text())
    assert code == Exit.OK, log.read_text()
    assert service.view(run).outcome == "completed"
    assert json.loads((state / STATUS_FILE).read_text())["answers"] == 1


def test_its_service_manager_and_its_status_file_say_what_it_does(tmp_path: Path, digits_model: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(60)
    environment = {**lab.ENVIRONMENT, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    with manager, Service(tmp_path, environment=environment) as service:
        service.serve()
        said = _heard(manager, "READY=1")
        assert "STATUS=" not in said, "only the client has said something but that it is ready"
        folder = tmp_path / NAME
        assert _status(folder)[0] == Exit.USAGE, "no client has worked there"
        child = service.join_digits(0, 1, "--forever", "--nice", "7")
        assert "STATUS=loads its task and tries it" in _heard(manager, "STATUS=waits for a task")
        _heard(manager, "WATCHDOG=1")
        assert os.getpriority(os.PRIO_PROCESS, child.process.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 7
        code, words = _status(folder)
        assert code == Exit.OK
        assert "waits for a task" in words
        service.start_run(digits_model, SETTINGS.model_copy(update={"rounds": 2}))
        heard = _heard(manager, "round 2")
        assert "STATUS=works on a task" in heard
        assert "STATUS=gives its answer" in heard
        port = service.kill()
        _heard(manager, f"; http://127.0.0.1:{port}: ")
        code, words = _status(folder, "--format", "json")
        status = json.loads(words)
        assert code == Exit.OK
        assert status["runs"] is True
        assert f":{port}" in status["hindered"]
        assert (status["answers"] > 0, status["client"]) == (True, NAME)
        assert status["sent"] > 0
        interrupt(child)
        _heard(manager, "STOPPING=1")
        service.children.forget(child)
        code, words = _status(folder)
        assert code == Exit.FAILED
        assert "no process works in this folder; the last one has ended; interrupted" in words


def _heard(manager: socket.socket, expected: str) -> str:
    """All that the manager hears until this comes, with it."""
    heard, ends = "", time.monotonic() + DEADLINE_S
    while expected not in heard:
        assert time.monotonic() < ends, heard[-2000:]
        heard += manager.recv(4096).decode() + "\n"
    return heard


@pytest.mark.long
def test_a_task_that_needs_more_memory_than_it_may_have_is_declined_and_the_client_lives(
    service: Service, tmp_path: Path
) -> None:
    task = tmp_path / "hungry.py"
    task.write_text(HUNGRY)
    model = service.first_model(["--task", str(task)])
    large = RunSettings(name="large", rounds=1, cohort=1, settings={"batch-size": 200})
    run = service.start_run(model, large).id
    words = ("--task", str(task), "--memory", "600MB", "--forever")
    child = service.join(NAME, service.write_invite(NAME), words)
    until(lambda: "out of memory" in service.coordinator.log.read_text(), service.children)
    assert service.view(run).state != "finished"
    service.command(service.view(run), "stop", drop=True)
    small = RunSettings(name="small", rounds=1, cohort=1, settings={"batch-size": 8})
    again = service.start_run(model, small).id
    until(lambda: service.view(again).outcome == "completed", service.children)
    assert child.process.poll() is None
