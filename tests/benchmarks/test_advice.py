"""What an advice is held against: runs that are played once, and bytes to a target."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from benchmarks.advice import Compared, Played, bytes_to, grid, table
from benchmarks.eight_tasks import TASKS
from thinwire.operator.advise_bytes import points_of
from thinwire.protocol.trials import TrialRequest

TASK = TASKS["breast_cancer"]


def _request(index: int) -> TrialRequest:
    return TrialRequest(run=list(grid())[index].made(2, TASK.clients, 0))


def test_what_the_journal_holds_is_not_played_again_and_counts_for_whoever_asks(tmp_path: Path) -> None:
    journal = tmp_path / "runs.jsonl"
    first = Played(TASK, journal)
    found = [first.play(_request(index)) for index in (0, 1)]
    assert [one.outcome for one in found] == ["completed", "completed"]
    again = Played(TASK, journal)
    assert again.spent_s == 0
    assert again.play(_request(1)) == found[1]
    assert again.spent_s == found[1].seconds < first.spent_s
    assert len(journal.read_text().splitlines()) == 2
    points = points_of(found[1], again.begin())
    assert bytes_to(points, "accuracy", 0.0) == points[1].wire  # the first model is nobody's work
    assert bytes_to(points, "accuracy", 1.1) is None


def test_the_grid_has_each_run_once() -> None:
    names = [one.name for one in grid()]
    assert len(names) == len(set(names))
    assert {one.method for one in grid()} == {"fedavg", "feddlr", "progfed", "feddkd", "sparse_masks", "seed_scalars"}


def test_near_is_within_a_tenth_of_the_cheapest() -> None:
    def compared(task: str, advised: int | None) -> Compared:
        return Compared(task, "accuracy", 0.9, 80, 3, "fedavg, 4 bits", 1000, "fedavg, 8 bits", advised, 100, 20)

    held = {one.task: asdict(one) for one in map(compared, ("digits", "diabetes", "nuclei"), (1100, 1101, None))}
    assert [row[4:6] for row in table(held).rows] == [("1.10", "yes"), ("1.10", "no"), ("never", "no")]
