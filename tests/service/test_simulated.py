"""What is played without a network is what happens over one: to the bit, and to two percent of the bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from thinwire.edge_client.settings import SimulateSettings
from thinwire.edge_client.trials import Trials
from thinwire.methods.rounds import Round, rounds_of
from thinwire.operator.compare import simulate_comparison
from thinwire.operator.simulated import Simulations
from thinwire.protocol.messages import RunView
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TrialExchange, TrialPlace, TrialRequest, TrialResult

from .conftest import Service, until

CLIENTS = 4
RUN = RunSettings(
    name="part", rounds=5, cohort=2, min_clients=CLIENTS, seed=3, uplink="quantise('2..4'), entropy",
    settings={"lr": 0.05}, downlink="delta, quantise('6..3'), entropy",
)  # fmt: skip
"""With bits that change in every round: both ends must find the same ones."""


class Here:
    """Plays in this process what a process of its own would."""

    def __init__(self) -> None:
        self._trials = Trials(SimulateSettings(task="digits", clients=CLIENTS))

    def begin(self) -> TrialPlace:
        return self._trials.place()

    def follow(self, request: TrialRequest, told: Callable[[TrialExchange], None]) -> TrialResult:
        return self._trials.play(request, told)


@pytest.fixture(scope="module")
def simulations() -> Simulations:
    return Simulations(Here())


def test_a_run_that_is_played_is_the_run_that_is_served(
    service: Service, digits_model: Path, simulations: Simulations
) -> None:
    """Of a cohort that changes, so that some come, some stay, and some come back."""
    run = service.start_run(digits_model, RUN).id
    for index in range(CLIENTS):
        service.join_digits(index, CLIENTS)
    until(service.clients_have_ended, service.children)
    seen: list[tuple[RunView, list[Round]]] = []
    file = service.folder / "played.safetensors"
    played = simulations.play(RUN, file, lambda view, rounds: seen.append((view, rounds)))
    assert played.model == file
    assert file.read_bytes() == service.fetch_model(run, service.folder / "served.safetensors").read_bytes()
    served = service.metrics(run).exchanges
    assert [one.metrics["loss"] for one in played.exchanges] == [one.metrics["loss"] for one in served]
    for mine, theirs in zip(played.exchanges, served, strict=True):
        assert (mine.round, mine.step, mine.kind, mine.answers) == (
            theirs.round, theirs.step, theirs.kind, theirs.answers
        )  # fmt: skip
        assert mine.uplink_payload_bytes == theirs.uplink_payload_bytes
    for mine_all, theirs_all in (
        (sum(one.uplink_bytes for one in played.exchanges), sum(one.uplink_bytes for one in served)),
        (sum(one.downlink_bytes for one in played.exchanges), sum(one.downlink_bytes for one in served)),
    ):
        assert mine_all == pytest.approx(theirs_all, rel=0.02)
    # Whoever watched saw every exchange, and at the end what the result says.
    assert [view.exchange for view, _ in seen] == [*range(1, len(served) + 1), len(served)]
    assert seen[-1][0].outcome == "completed"
    assert seen[-1][1] == rounds_of(played.exchanges)


def test_what_cannot_be_played_is_a_result_or_a_refusal(simulations: Simulations, tmp_path: Path) -> None:
    def play(**changed: object) -> RunSettings:
        return RUN.model_copy(update={"rounds": 2, **changed})

    wild = play(name="wild", settings={"lr": 100.0})
    unknown = play(name="unknown", settings={"lr": 1000.0})
    found = simulate_comparison(
        simulations, [wild, unknown, play(name="mild")], tmp_path, lambda _: None, lambda _view, _rounds: None
    )
    assert [(one.view.name, one.view.outcome) for one in found.results] == [("wild", "failed"), ("mild", "completed")]
    assert found.results[0].model is None
    assert "out-of-range" in (found.results[0].view.reason or "")
    assert [one.settings.name for one in found.refused] == ["unknown"]
    assert found.unaccounted_bytes is None
    with pytest.raises(ProblemError, match="a cohort of 9, of 4 clients"):
        simulations.play(play(cohort=9), tmp_path / "no.safetensors", lambda _view, _rounds: None)
