"""Rounds from exchanges: a round's accuracy is that of the model it made; its bytes are those of its exchanges."""

from __future__ import annotations

import pytest

from tests.operator.stub import run_of
from thinwire.coordinator.runs.metrics import Told, weighted_metrics
from thinwire.methods.frozen_parts import mark_as_number
from thinwire.methods.rounds import bytes_to_accuracy, bytes_until, evaluation_of, own_score, rounds_of
from thinwire.operator.learning import learning_warnings
from thinwire.operator.tables import final_measures, measure_table, measures, round_cells, round_columns, score_of
from thinwire.protocol.messages import ExchangeMetrics


def _exchange(index: int, round_: int, step: int, kind: str, accuracy: float | None, before: int) -> ExchangeMetrics:
    return ExchangeMetrics(
        exchange=index, round=round_, step=step, kind=kind, answers=2, offers=1,
        metrics={} if accuracy is None else {"accuracy": accuracy, "loss": 1 - accuracy}, seconds=1.0,
        uplink_bytes=100, downlink_bytes=200, uplink_payload_bytes=90, downlink_payload_bytes=180,
        uplink_bytes_before=before,
        downlink_bytes_before=2 * before,
    )  # fmt: skip


def test_one_exchange_a_round() -> None:
    exchanges = [
        _exchange(0, 1, 0, "train", 0.1, 0),
        _exchange(1, 2, 0, "train", 0.5, 100),
        _exchange(2, 3, 0, "evaluate", 0.8, 200),
    ]
    start, first, second = rounds_of(exchanges)
    assert (start.accuracy, first.accuracy, second.accuracy) == (0.1, 0.5, 0.8)
    assert (start.total_bytes, first.total_bytes, second.total_bytes) == (0, 300, 600)
    assert (first.cost.wire, first.cost.framing, first.answers) == (300, 30, 2)
    assert evaluation_of(exchanges) == exchanges[2]


def test_several_steps_are_one_round() -> None:
    exchanges = [
        _exchange(0, 1, 0, "train", 0.1, 0),
        _exchange(1, 1, 1, "distil", None, 100),
        _exchange(2, 2, 0, "train", 0.6, 200),
    ]
    start, first, second = rounds_of(exchanges)
    assert (start.accuracy, first.accuracy, second.accuracy) == (0.1, 0.6, None)
    assert (first.cost.uplink, first.cost.downlink, first.cost.seconds, first.answers) == (200, 400, 2.0, 4)
    assert (first.total_bytes, second.total_bytes) == (600, 900)
    assert evaluation_of(exchanges) is None


def test_a_round_without_a_number_is_shown_as_one() -> None:
    exchanges = [_exchange(0, 1, 0, "train", 0.1, 0), _exchange(1, 2, 0, "train", None, 100)]
    exchanges += [_exchange(2, 3, 0, "evaluate", 0.8, 200)]
    start, first, second = rounds_of(exchanges)
    assert (start.lost, first.lost, second.lost) == (False, True, False)
    assert (first.accuracy, first.plain()["loss"], first.plain()["not_finite"]) == (None, None, True)
    assert round_cells(first, 36)[1:3] == ("NaN", "NaN")
    # Nothing is missing where nobody measures anything.
    assert not any(one.lost for one in rounds_of(exchanges[1:2]))


def test_of_maps_the_accuracy_is_the_mean_dice() -> None:
    exchange = _exchange(0, 1, 0, "train", None, 0)
    exchange.metrics["dice"] = 0.75
    assert rounds_of([exchange])[0].accuracy == 0.75


def test_nothing_has_happened_yet() -> None:
    (start,) = rounds_of([])
    assert (start.round, start.accuracy, start.cost.wire) == (0, None, 0)
    assert bytes_to_accuracy([start]) is None


def test_the_bytes_that_nearly_the_best_accuracy_cost() -> None:
    exchanges = [
        _exchange(index, index + 1, 0, "train", accuracy, 100 * index)
        for index, accuracy in enumerate([0.1, 0.5, 0.892, 0.9, 0.85])
    ]
    assert bytes_to_accuracy(rounds_of(exchanges)) == (0.892, 600)


def test_what_else_is_measured_stands_in_a_table_of_its_own() -> None:
    plain = [_exchange(0, 1, 0, "train", 0.1, 0)]
    assert measures(plain)[1] == []
    assert measure_table(plain) is None
    assert final_measures(plain) == ""
    first, last = _exchange(0, 1, 0, "train", 0.1, 0), _exchange(1, 2, 0, "evaluate", 0.5, 100)
    first.metrics["density"] = 0.25
    last.metrics["dice"] = 0.75
    assert measures([first, last]) == (("round", "exchange", "density"), [("1", "train", "0.25")])
    assert final_measures([first, last]) == "dice 0.75"


def test_a_score_of_ones_own_takes_the_place_of_accuracy() -> None:
    exchanges = [_exchange(index, index + 1, 0, "train", 0.9, 100 * index) for index in range(3)]
    for index, exchange in enumerate(exchanges):
        exchange.metrics["f1"] = index / 4
    rounds = rounds_of(exchanges, "f1")
    assert [one.accuracy for one in rounds] == [0.0, 0.25, 0.5, None]
    assert bytes_until(rounds, 0.4) == rounds[2].total_bytes
    assert [one.accuracy for one in rounds_of(exchanges, "no such")] == [None] * 4


@pytest.mark.parametrize(
    ("best", "score"),
    [
        (None, None), ("none", None), ("accuracy,f1", None), ("loss", None), ("f1,loss", "f1"), ("-rmse", "rmse"),
    ],
)  # fmt: skip
def test_the_score_that_a_run_keeps_its_best_model_by_heads_its_rounds(best: str | None, score: str | None) -> None:
    assert own_score(best) == score
    view = run_of(settings={} if best is None else {"best": best})
    assert score_of(view) == score
    assert round_columns(score_of(view))[1] == (score or "accuracy")


def test_bits_are_of_payload_for_one_answer_and_parameter() -> None:
    _, one = rounds_of([_exchange(0, 1, 0, "train", 0.1, 0)])
    assert one.bits_per_parameter(36) == (8 * 90 / (2 * 36), 8 * 180 / (2 * 36))
    assert round_cells(one, 36)[5] == "10/20"
    assert one.cost.framing == 30


def test_parts_that_do_not_travel_and_are_compared_by_nobody_are_told_of_and_where_they_differ() -> None:
    """As the coordinator makes one number of what its clients say; one of before has no mark."""
    same, other = (mark_as_number({"backbone.weight": bytes([number]) * 32}) for number in (1, 2))
    assert 1 < same < 2
    assert 1 < other < 2
    cases = [((same, same, 1.0), 1.0), ((same, other, same), 2.0), ((1.0, 1.0), 1.0)]
    for marks, wanted in cases:
        told = [Told(5, {"loss": 0.5, "unchecked": mark}) for mark in marks]
        assert weighted_metrics(told, 10)["unchecked"] == wanted
        exchange = _exchange(0, 1, 0, "train", 0.9, 100)
        exchange.metrics["unchecked"] = wanted
        (said,) = learning_warnings([exchange])
        assert ("was not the same at all of them" in said) == (wanted == 2)
        assert ("nothing compares them" in said) == (wanted == 1)
        assert "thinwire-client model init" in said
    assert "unchecked" not in weighted_metrics([Told(5, {"loss": 0.5})], 10)


def test_a_run_that_learns_nothing_is_told_of() -> None:
    exchanges = [_exchange(index, index + 1, 0, "train", accuracy, 0) for index, accuracy in enumerate((0.1, 0.7, 0.1))]
    (said,) = learning_warnings(exchanges)
    assert "after round 2 the model is no better" in said
    assert "after round 1 it was loss 0.3 and accuracy 0.700" in said
    exchanges[1].metrics["unmoved"] = 1.0
    assert learning_warnings(exchanges) == [said], "it is over"
    exchanges[2].metrics["unmoved"] = 1.0
    assert "in round 3 training moves no weight" in learning_warnings(exchanges)[1]
    exchanges[2].metrics["accuracy"] = 0.9
    assert len(learning_warnings(exchanges)) == 1
    assert not learning_warnings([])
    exchanges[2].metrics["diverging"] = 3.0
    assert "in round 3, at clients: training diverges: the loss is 3 times" in learning_warnings(exchanges)[1]
    assert "Lower the rate of training (lr)" in learning_warnings(exchanges)[1]
    exchanges[2].metrics["diverging"] = 1.2
    assert len(learning_warnings(exchanges)) == 1, "once, and by little: it happens in runs that learn"
    exchanges[1].metrics["diverging"] = 1.2
    assert "the loss is 1.2 times" in learning_warnings(exchanges)[1]
    assert "diverging" not in measures(exchanges)[0], "no figure of the run"
