"""What was played is told as a coordinator tells of a run, and to the same sum."""

from __future__ import annotations

from benchmarks.outcomes import Outcome
from benchmarks.playing import exchanges_of
from thinwire.operator.advise_bytes import total
from thinwire.protocol.trials import TrialExchange, TrialPlace, TrialResult


def test_exchanges_of_a_played_run_add_up_to_what_it_costs() -> None:
    def one(round_: int, kind: str, up: int, accuracy: float) -> TrialExchange:
        return TrialExchange(
            round=round_, kind=kind, clients=3, uplink_bytes=up, downlink_bytes=700, fetched=3, uploaded=0,
            newcomers=3 if round_ == 1 else 0, plans=0 if round_ == 2 else 3, plan_bytes=0 if round_ == 2 else 1300,
            metrics={"accuracy": accuracy},
        )  # fmt: skip

    exchanges = [one(1, "train", 300, 0.1), one(2, "train", 301, 0.5), one(3, "evaluate", 0, 0.75)]
    result = TrialResult(outcome="completed", exchanges=exchanges)
    told = Outcome({"exchanges": [each.model_dump(mode="json") for each in exchanges_of(result)]})
    assert told.everything == total(result, TrialPlace(clients=3, examples=9, parameters=4))
    assert told.accuracy == 0.75
    # The download of a model belongs to the round behind it.
    assert [accuracy for _, accuracy in told.curve] == [0.1, 0.5, 0.75]
    assert told.curve[1][0] == told.rounds[1].cost.wire
