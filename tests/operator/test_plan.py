"""`thinwire plan`: what it foretells holds the bytes of the run that is played afterwards, exchange by exchange."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from thinwire.codecs import Arrays
from thinwire.edge_client.model import first_model
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.edge_client.settings import SimulateSettings
from thinwire.edge_client.trials import Trials
from thinwire.machine.link_rates import parse_link
from thinwire.methods.arrays import Model
from thinwire.methods.foretold import foretell
from thinwire.methods.model_file import model_bytes
from thinwire.methods.registry import method_ids
from thinwire.operator.cli.app import app
from thinwire.operator.plan import plan
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TrialRequest

CLIENTS = 2
FIXED: dict[str, dict[str, Any]] = {
    "raw": {"chains": "plain"},
    "raw, of a part that grows": {"method": "seed_scalars"},
    "bits, raw down": {"chains": "plain", "uplink": "quantise(8)"},
    "more bits in each round, raw down": {"chains": "plain", "uplink": "quantise('8..16')"},
}
RANGES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "few bits": {"uplink": "quantise(2), entropy", "downlink": "delta, quantise(3), entropy"},
    "bits that change": {"uplink": "quantise('2..5'), entropy", "downlink": "delta, quantise('6..3'), entropy"},
    "feddlr": {"method": "feddlr"},
    "progfed": {"method": "progfed", "rounds": 6},
    "sparse_masks": {"method": "sparse_masks"},
    "fd_alu": {"method": "fd_alu"},
}
LONG: dict[str, dict[str, Any]] = {"feddkd": {"method": "feddkd"}}


@pytest.fixture(scope="module")
def first() -> Arrays:
    return first_model(find_problem("digits"), 0)


@pytest.fixture(scope="module")
def trials() -> Trials:
    return Trials(SimulateSettings(task="digits", clients=CLIENTS, limit="60"))


def _run(given: dict[str, Any]) -> RunSettings:
    return RunSettings.model_validate({"rounds": 3, "cohort": CLIENTS, **given})


@pytest.mark.parametrize("name", [*FIXED, *RANGES, pytest.param("feddkd", marks=pytest.mark.long)])
def test_every_exchange_lies_within_what_was_foretold(first: Arrays, trials: Trials, name: str) -> None:
    run = _run({**FIXED, **RANGES, **LONG}[name])
    least, most = foretell(run, first, CLIENTS)
    played = trials.play(TrialRequest(run=run))
    assert played.outcome == "completed", played.reason
    fetched = sum(one.plans for one in played.exchanges), sum(one.plan_bytes for one in played.exchanges)
    assert fetched == (CLIENTS * least.plans, CLIENTS * least.plan_bytes)
    for low, real, high in zip(least.exchanges, played.exchanges, most.exchanges, strict=True):
        assert (low.round, low.kind, low.clients) == (real.round, real.kind, real.clients)
        assert low.uplink_bytes <= real.uplink_bytes <= high.uplink_bytes
        assert low.downlink_bytes <= real.downlink_bytes <= high.downlink_bytes
        assert low.fetched <= real.fetched <= high.fetched
    if name in FIXED:
        assert least == most


def test_whoever_was_not_asked_before_needs_the_whole_model(first: Arrays) -> None:
    run = _run(RANGES["few bits"])
    _, alone = foretell(run, first, CLIENTS)
    least, many = foretell(run, first, 10 * CLIENTS)
    assert many.exchanges[1].downlink_bytes > 2 * alone.exchanges[1].downlink_bytes
    assert least.exchanges[1].downlink_bytes < alone.exchanges[1].downlink_bytes


@pytest.mark.parametrize("rows", [300, 11])
def test_a_first_model_that_clients_do_not_make_is_fetched(rows: int) -> None:
    """Of the smaller one, 4.4 kB, every later broadcast travels inside its message."""
    model = Model({"w": np.random.default_rng(0).standard_normal((rows, 100)).astype(np.float32)})
    run = _run(FIXED["raw"])
    (own, later, *_), (fetched, *_) = (
        foretell(run, model, CLIENTS, own_first=each)[0].exchanges for each in (True, False)
    )
    assert (own.downlink_bytes, own.fetched) == (0, 0)
    assert (fetched.downlink_bytes, fetched.fetched) == (CLIENTS * (400 * rows + 1), CLIENTS)
    assert later.fetched == (CLIENTS if rows == 300 else 0)


def test_a_first_model_below_four_kilobytes_comes_in_its_message_whoever_could_make_it() -> None:
    model = Model({"w": np.random.default_rng(0).standard_normal((10, 100)).astype(np.float32)})
    run = _run(FIXED["raw"])
    for each in (True, False):
        sent = foretell(run, model, CLIENTS, own_first=each)[0].exchanges[0]
        assert (sent.downlink_bytes, sent.fetched) == (CLIENTS * 4_001, 0)


def test_time_is_bytes_over_the_rate_and_round_trips(first: Arrays) -> None:
    planned = plan(_run(FIXED["raw"]), first, CLIENTS, parse_link("8kbit/80kbit,2s"))
    # The first model, which clients make, is no part of the first round.
    assert [row[:2] for row in planned.rounds[:2]] == [("1", 1), ("2-3", 2)]
    cost = planned.rounds[1][2].least
    assert cost.seconds == pytest.approx(cost.up / CLIENTS / 1000 + cost.down / CLIENTS / 10_000 + 2)
    lossy = plan(_run(FIXED["raw"]), first, CLIENTS, parse_link("8kbit/80kbit,2s,10%"))
    # A stall of 4 s in one of ten round trips of 2 s.
    assert lossy.rounds[1][2].least.seconds - 2 == pytest.approx(1.2 * (cost.seconds - 2))


def test_answers_that_follow_from_the_clients_data_are_not_foretold(first: Arrays) -> None:
    with pytest.raises(ProblemError, match="thinwire advise"):
        foretell(_run({"method": "fd_alu", "settings": {"knowledge": "sample"}}), first, CLIENTS)


def test_each_budget_is_held_against_what_is_foretold(first: Arrays) -> None:
    """A client's by its dearest round and its whole run; a run that fits to the byte fits."""

    def fits(**budgets: int) -> dict[str, str]:
        given = {name.replace("_", "-"): most for name, most in budgets.items()}
        return {one.name: one.fits for one in plan(_run({**FIXED["raw"], **given}), first, CLIENTS, None).budgets}

    free = plan(_run(FIXED["raw"]), first, CLIENTS, None)
    assert free.budgets == []
    each, whole = free.rounds[1][2].least.wire // CLIENTS, free.total.least.wire // CLIENTS
    enough = {"max_bytes": free.total.least.wire, "max_bytes_per_round": each, "max_bytes_per_day": whole}
    assert fits(**enough) == dict.fromkeys(["max-bytes", "max-bytes-per-round", "max-bytes-per-day"], "yes")
    assert fits(**{name: most - 1 for name, most in enough.items()}) == dict.fromkeys(
        ["max-bytes", "max-bytes-per-round", "max-bytes-per-day"], "no"
    )
    (month,) = plan(_run({**FIXED["raw"], "max-bytes-per-month": 2 * each + 1}), first, CLIENTS, None).budgets
    assert (month.fits, month.rounds) == ("no", 2)
    few = _run({**RANGES["few bits"], "max-bytes-per-round": 1})
    (low, high) = plan(few, first, CLIENTS, None).budgets[0].needs
    (budget,) = plan(few.model_copy(update={"max_bytes_per_round": (low + high) // 2}), first, CLIENTS, None).budgets
    assert (low < high, budget.fits) == (True, "perhaps")


def test_the_command_shows_every_method_a_run_and_its_budget(first: Arrays, tmp_path: Path) -> None:
    model, config = tmp_path / "first.safetensors", tmp_path / "run.toml"
    model.write_bytes(model_bytes(first))
    config.write_text('chains = "plain"\nmax-bytes = 200000\ncohort = 2\n')
    words = ["plan", "--model", str(model), "--rounds", "2"]
    everything = CliRunner().invoke(app, [*words, "--clients", "2", "--link", "nb-iot", "--format", "json"])
    assert everything.exit_code == 0, everything.output
    runs = {one["method"]: one["total"] for one in json.loads(everything.output)["runs"]}
    assert runs.keys() == set(method_ids())
    (low, high), (least, most) = runs["seed_scalars"]["wire"], runs["fedavg"]["wire"]
    assert low == high < least < most
    one = CliRunner().invoke(app, [*words, "--config", str(config)])
    assert one.exit_code == 0, one.output
    assert "does not fit within max-bytes, 200 kB" in " ".join(one.output.split())
    wrong = CliRunner().invoke(app, [*words, "--config", str(config), "--clients", "1"])
    assert wrong.exit_code == 2
