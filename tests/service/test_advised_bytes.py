"""What `thinwire advise` and `thinwire plan` say a run will cost is what the ledger of the real run shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinwire.edge_client.settings import SimulateSettings
from thinwire.edge_client.trials import Trials
from thinwire.methods.model_file import read_model
from thinwire.operator.advise_bytes import points_of
from thinwire.operator.plan import plan
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TrialRequest

from .conftest import Service, until

CLIENTS = 2
RUNS = {
    "few bits": {"method": "fedavg", "uplink": "quantise(4), entropy", "downlink": "delta, quantise(4), entropy"},
    "scalars": {"method": "seed_scalars"},
    "raw": {"chains": "plain"},
}


@pytest.mark.parametrize(
    "name", ["scalars", *(pytest.param(one, marks=pytest.mark.long) for one in ("few bits", "raw"))]
)
def test_bytes_are_within_two_percent_of_the_ledger(service: Service, digits_model: Path, name: str) -> None:
    trials = Trials(SimulateSettings(task="digits", clients=CLIENTS))
    settings = RunSettings(name="foretold", rounds=8, cohort=CLIENTS, **RUNS[name])
    run = service.start_run(digits_model, settings).id
    for index in range(CLIENTS):
        service.join_digits(index, CLIENTS)
    until(service.clients_have_ended, service.children)
    foretold = points_of(trials.play(TrialRequest(run=settings)), trials.place())[-1]
    exchanges = service.metrics(run).exchanges
    up, down = sum(one.uplink_bytes for one in exchanges), sum(one.downlink_bytes for one in exchanges)
    assert foretold.up == pytest.approx(up, rel=0.02)
    assert foretold.down == pytest.approx(down, rel=0.02)
    planned = plan(settings, read_model(digits_model), CLIENTS, None).total
    if name != "few bits":
        assert planned.least == planned.most
        assert planned.least.up == pytest.approx(up, rel=0.02)
        assert planned.least.down == pytest.approx(down, rel=0.02)
    else:
        assert planned.least.up <= up <= planned.most.up
        assert planned.least.down <= down <= planned.most.down
