"""A client that cannot do its task says so and ends; the run goes on without it, though it has no deadline."""

from __future__ import annotations

from pathlib import Path

from thinwire.operator import requests
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import RunSettings

from .conftest import Service, until
from .test_simulation import contributors


def test_a_run_without_a_deadline_goes_on_when_a_client_gives_up(service: Service, digits_model: Path) -> None:
    # Both are present and the first in the order of the cohort is the one that may send next to nothing.
    settings = RunSettings(name="declined", rounds=2, cohort=1, min_clients=2, seed=0, evaluate=False)
    run = service.start_run(digits_model, settings).id
    unable = service.join_digits(0, 2, "--max-answer-bytes", "100")
    service.join_digits(1, 2)
    until(lambda: service.view(run).state == "finished")
    assert service.view(run).outcome == "completed"
    assert contributors(service, run) == [{"client-01"}] * 2
    assert unable.process.wait(60) == Exit.REFUSED
    assert "this client sends at most 100" in unable.log.read_text()
    log = (service.folder / "logs" / "coordinator.log").read_text()
    assert "task declined" in log
    assert "this client sends at most 100" in log
    lines = [line.said for line in service.operator.send(requests.client_log("client-00")).lines]
    assert lines[0].startswith("joined http://")
    assert "this client sends at most 100" in lines[-1]
    # Whoever has no trouble sends none: no byte is spent on it.
    assert service.operator.send(requests.client_log("client-01")).lines == []
