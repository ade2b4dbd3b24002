"""Many clients in few processes are to the coordinator what as many processes are."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from thinwire.methods.model_file import read_model
from thinwire.operator.lab import EDGE_CLIENT
from thinwire.operator.processes import Child
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import RunSettings

from .conftest import ENVIRONMENT, Service, interrupt, until
from .test_simulation import contributors, simulated

CLIENTS = 7
NAMES = [f"client-{index:05d}" for index in range(CLIENTS)]
STATS = "fleet.json"


def start_fleet(service: Service, *options: str) -> Child:
    arguments = [
        "fleet", service.url, "--clients", str(CLIENTS), "--processes", "2", "--task", "digits",
        "--invite-file", str(service.folder / "fleet.invite"), "--data-dir", str(service.folder / "fleet"),
        "--stats", str(service.folder / STATS), *options,
    ]  # fmt: skip
    return service.children.start("fleet", EDGE_CLIENT, arguments, ENVIRONMENT)


def test_a_fleet_that_is_killed_and_begins_again_ends_in_the_bits_of_the_plain_loop(
    service: Service, digits_model: Path
) -> None:
    """Of a method that remembers, so that what lies in the clients' folders counts."""
    settings = RunSettings(
        name="fleet", method="feddlr", settings={"energy-up": 0.8}, rounds=6, cohort=3, seed=5, min_clients=CLIENTS
    )
    (service.folder / "fleet.invite").write_text(service.invite(CLIENTS))
    run = service.start_run(digits_model, settings).id
    fleet = start_fleet(service)
    until(lambda: service.view(run).exchange >= 2, service.children)
    os.killpg(fleet.process.pid, signal.SIGKILL)
    fleet.process.wait()
    service.children.forget(fleet)
    fleet = start_fleet(service)
    until(lambda: service.view(run).state == "finished", service.children)
    assert fleet.process.wait(60) == Exit.OK, fleet.log.read_text()

    sets = contributors(service, run)
    assert len(set.union(*sets)) > settings.cohort
    served = read_model(service.fetch_model(run, service.folder / "final.safetensors"))
    replayed = simulated(settings, read_model(digits_model), sets, NAMES)
    assert replayed.model is not None
    for name, array in replayed.model.items():
        assert served[name].tobytes() == array.tobytes(), name
    stats = json.loads((service.folder / STATS).read_text())
    assert stats["clients"]["finished"] == CLIENTS
    assert stats["tasks"] > 0
    assert f"{CLIENTS} of {CLIENTS} clients finished" in fleet.log.read_text()


def test_what_ends_clients_is_told_once(service: Service, digits_model: Path) -> None:
    (service.folder / "fleet.invite").write_text(service.invite(CLIENTS - 2))
    run = service.start_run(digits_model, RunSettings(name="few", rounds=1, cohort=2, seed=5)).id
    fleet = start_fleet(service)
    assert fleet.process.wait(60) == Exit.FAILED
    assert service.view(run).outcome == "completed"
    assert f"{CLIENTS - 2} of {CLIENTS} clients finished" in fleet.log.read_text()
    assert "2 failed: invite-invalid" in fleet.log.read_text()
    assert json.loads((service.folder / STATS).read_text())["clients"]["failed"] == 2


def test_no_process_of_a_fleet_outlives_its_leader(service: Service) -> None:
    """Killed, it can end none of them."""
    (service.folder / "fleet.invite").write_text(service.invite(CLIENTS))
    fleet = start_fleet(service)
    until(lambda: len(service.operator.clients()) == CLIENTS, service.children)
    assert _members(fleet) == 2
    interrupt(fleet, signal.SIGKILL)
    service.children.forget(fleet)
    until(lambda: not _members(fleet))


def _members(fleet: Child) -> int:
    """Processes of its session, beside itself."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found += int(fields[3]) == fleet.process.pid and int(path.parent.name) != fleet.process.pid and fields[0] != "Z"
    return found
