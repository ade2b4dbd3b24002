"""What `thinwire advise` says a run will cost is what the ledger of the real run shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinwire.edge_client.settings import SimulateSettings
from thinwire.edge_client.trials import Trials
from thinwire.operator.advise_bytes import BEGIN, Overhead, points_of
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TrialRequest

from .conftest import Service, until

CLIENTS = 2
RUNS = {
    "few bits": {"method": "fedavg", "uplink": "quantise(4), entropy", "downlink": "delta, quantise(4), entropy"},
    "scalars": {"method": "seed_scalars"},
}


def test_bytes_are_within_two_percent_of_the_ledger(service: Service, digits_model: Path) -> None:
    trials = Trials(SimulateSettings(task="digits", clients=CLIENTS))
    place = trials.place()
    made = {
        name: RunSettings(name=name.replace(" ", "-"), rounds=8, cohort=CLIENTS, **given)
        for name, given in RUNS.items()
    }
    runs = {name: service.start_run(digits_model, settings).id for name, settings in made.items()}
    for index in range(CLIENTS):
        service.join_digits(index, CLIENTS)
    until(service.clients_have_ended, service.children)
    spare = Overhead(0, 0)
    for name, settings in made.items():
        foretold = points_of(trials.play(TrialRequest(run=settings)), place)[-1]
        exchanges = service.metrics(runs[name]).exchanges
        up, down = (sum(getattr(one, f"{way}_bytes") for one in exchanges) for way in ("uplink", "downlink"))
        assert foretold.up - spare.up == pytest.approx(up, rel=0.02), name
        assert foretold.down - spare.down == pytest.approx(down, rel=0.02), name
        # The clients register once, and the run that they are asked for first pays for it.
        spare = Overhead(CLIENTS * BEGIN.up, CLIENTS * BEGIN.down)
