"""Which model of a run is the best one: by which score, which way round, and of equals the first."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.coordinator.runs.best import Best, after, best_by
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings


def over(told: list[dict[str, float]], wanted: str | None = None) -> list[tuple[str, float, int]]:
    """The best models when exchanges have told this one after the other: score, value, exchange."""
    best: tuple[Best, ...] = ()
    for exchange, metrics in enumerate(told):
        best = after(best, wanted, metrics, exchange=exchange, round_=exchange, epoch=None)
    return [(one.score, one.value, one.exchange) for one in best]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=9))
def test_the_first_of_the_largest_is_kept_and_of_a_loss_the_first_of_the_smallest(values: list[float]) -> None:
    told = [{"accuracy": value, "loss": value} for value in values]
    most, least = max(values), min(values)
    assert over(told) == [("accuracy", most, values.index(most))]
    assert over(told, "loss,-accuracy") == [(name, least, values.index(least)) for name in ("loss", "accuracy")]


@pytest.mark.parametrize(
    ("metrics", "score"),
    [
        ({"accuracy": 0.5, "loss": 1.0}, "accuracy"),
        ({"dice": 0.5, "loss": 1.0}, "dice"),
        ({"f1": 1.0, "loss": 1.0}, "loss"),
    ],
)
def test_without_a_word_the_usual_score_counts(metrics: dict[str, float], score: str) -> None:
    assert [one[0] for one in over([metrics])] == [score]
    # What is measured later changes nothing about it.
    assert [one[0] for one in over([metrics, {"accuracy": 1.0, "dice": 1.0, "loss": 1.0, "f1": 1.0}])] == [score]


def test_what_is_not_measured_or_no_number_is_not_the_best() -> None:
    assert over([{"f1": math.nan}, {}, {"f1": 0.1}, {"loss": 0.0}, {"f1": math.inf}], "f1") == [("f1", 0.1, 2)]
    assert over([{"rmse": 3.0}, {"rmse": 2.0}, {"rmse": 2.0}, {"rmse": 4.0}], "-rmse") == [("rmse", 2.0, 1)]
    assert over([{"accuracy": 1.0}], "none") == over([{"examples": 3.0}]) == []


def test_it_is_found_by_its_score_and_written_in_json() -> None:
    kept = (Best("f1", 0.5, 3, 2, 7), Best("rmse", 0.1, 4, 3, None, b"m" * 32))
    assert tuple(map(Best.from_plain, json.loads(json.dumps([one.to_plain() for one in kept])))) == kept
    assert best_by(kept, "") is kept[0]
    assert best_by(kept, "rmse") is kept[1]
    for there, asked in ((kept, "accuracy"), ((), "")):
        with pytest.raises(ProblemError) as caught:
            best_by(there, asked)
        assert caught.value.reason == "no-global-model"


@pytest.mark.parametrize("wrong", ["", "f1,", "F1", "f1 ,loss", "--f1", "a,b,c,d,e", "f1,-f1"])
def test_only_names_of_scores_are_taken(wrong: str) -> None:
    with pytest.raises(ValueError, match="best"):
        RunSettings(best=wrong)
