"""feddkd over real processes while clients die between the steps of a round."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinwire.methods.model_file import read_model
from thinwire.protocol.identity import cohort_order
from thinwire.protocol.settings import RunSettings

from .conftest import Service, until
from .test_simulation import CLIENTS, NAMES, contributors, simulated

STEPS = 6


@pytest.mark.parametrize("quorum", [2, pytest.param(1, marks=pytest.mark.long)])
def test_a_client_dies_between_the_steps(service: Service, digits_model: Path, quorum: int) -> None:
    """Two of three clients take part. One of them dies: with a quorum of two the round ends with the student so far,
    with one the other goes on alone. The second round has the survivors.
    """
    settings = RunSettings(
        name="drop-out", method="feddkd", settings={"distil-steps": STEPS, "distil-samples": 20}, rounds=2, seed=4,
        cohort=2, quorum=quorum, min_clients=CLIENTS,
    )  # fmt: skip
    run = service.start_run(digits_model, settings).id
    for index in range(CLIENTS):
        service.join_digits(index, CLIENTS)
    victim, other = cohort_order(settings.seed, 1, NAMES)[:2]
    child = service.clients.pop(victim)
    until(lambda: "round 1/2 distil" in child.log.read_text(), service.children)
    child.process.kill()
    child.process.wait()
    service.children.forget(child)
    service.operator.revoke(victim)
    until(service.clients_have_ended, service.children)
    assert service.view(run).outcome == "completed"

    exchanges, sets = service.metrics(run).exchanges, contributors(service, run)
    first = [names for one, names in zip(exchanges, sets, strict=True) if one.round == 1 and one.kind == "distil"]
    assert first[0] >= {other}
    assert first[-1] == {other}
    if quorum == 2:
        assert len(first) < STEPS
    else:
        assert len(first) == STEPS
    survivors = set(NAMES) - {victim}
    assert sets[-1 - STEPS - 1 : -1] == [survivors] * (1 + STEPS)
    # It ends in the model of a plain loop with the same contributors.
    path = service.fetch_model(run, service.folder / "final.safetensors")
    served, replayed = read_model(path), simulated(settings, read_model(digits_model), sets)
    assert [one.given_up for one in replayed.exchanges if one.given_up] == [True] * (quorum == 2)
    assert replayed.model is not None
    for name, array in replayed.model.items():
        assert served[name].tobytes() == array.tobytes(), name
