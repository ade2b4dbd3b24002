"""Time to an accuracy on unequal links, waiting for everybody or not: `python -m benchmarks.stragglers`.

The same clients, data, model and seed four times; only the policy differs.

- synchronous: a round closes when every client has answered;
- over-selected: all are asked, and the round closes at the answers of all but the stragglers; theirs are late;
- deadline: all are asked, and the round closes with whoever has answered in time, if they are a quorum;
- asynchronous: all are at work all the time, and an exchange closes at the answers of half of them, whichever model
  they began from (`max-staleness`); it has as many more exchanges as it takes for as many answers.

Clients are real processes on emulated links (`thinwire-client join --link`); seconds are those of the exchanges as the
coordinator measured them. What the stragglers know is lost to the two policies in the middle, so the accuracy they end
at is shown beside the time to the target.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from thinwire.methods.rounds import Round, evaluation_of, rounds_of
from thinwire.operator.console import console
from thinwire.operator.fleet import client_name
from thinwire.operator.lab import Lab
from thinwire.operator.sheet import Sheet
from thinwire.protocol.messages import RunMetrics, RunView
from thinwire.protocol.settings import RunSettings

END_S = 1800.0
FAST, MIDDLE, STRAGGLER = "10mbit/30mbit,50ms", "1mbit/2mbit,150ms", "64kbit,600ms"
SLOWEST = "20kbit/25kbit,1500ms"


@dataclass(frozen=True, slots=True)
class Fleet:
    """`links`: one per client, the stragglers last; `stragglers`: how many clients the policies do without."""

    links: tuple[str, ...]
    stragglers: int
    rounds: int
    target: float
    deadline_s: float

    def policies(self) -> dict[str, RunSettings]:
        clients, needed = len(self.links), len(self.links) - self.stragglers
        common = {"rounds": self.rounds, "min_clients": clients, "seed": 0}
        half = clients // 2
        buffered = {**common, "rounds": self.rounds * clients // half, "concurrency": clients, "max_staleness": 20}
        return {
            "synchronous": RunSettings(name="synchronous", cohort=clients, **common),
            "over-selected": RunSettings(name="over-selected", cohort=needed, over_select=clients / needed, **common),
            "deadline": RunSettings(
                name="deadline", cohort=clients, quorum=needed, deadline_s=self.deadline_s, **common
            ),
            "asynchronous": RunSettings(name="asynchronous", cohort=half, **buffered),
        }


QUICK = Fleet((FAST,) * 4 + (MIDDLE,) * 2 + (STRAGGLER,) * 2, 2, 6, 0.8, 5)
FULL = Fleet((FAST,) * 6 + (MIDDLE,) * 4 + (STRAGGLER, SLOWEST), 2, 25, 0.93, 5)


@dataclass(frozen=True, slots=True)
class Point:
    """The model of one round: `seconds` from the first offer to its completion, wire `bytes` in both directions."""

    round: int
    seconds: float
    bytes: int
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy. `answers`: that count; `staleness`: of them in the mean, in exchanges; `seconds_to_target`: None
    where it was never reached.
    """

    policy: str
    points: list[Point]
    answers: int
    staleness: float
    seconds_to_target: float | None
    bytes_to_target: int | None
    final_accuracy: float | None


def points_of(rounds: list[Round], last: float | None) -> list[Point]:
    """`last`: the accuracy of the final model."""
    points, seconds = [], 0.0
    for one in rounds:
        seconds += one.cost.seconds
        accuracy = one.accuracy if one is not rounds[-1] else last
        points.append(Point(one.round, seconds, one.total_bytes, accuracy))
    return points


def outcome(policy: str, metrics: RunMetrics, target: float) -> Outcome:
    evaluation = evaluation_of(metrics.exchanges)
    last = None if evaluation is None else evaluation.metrics.get("accuracy")
    points = points_of(rounds_of(metrics.exchanges), last)
    reached = next((point for point in points if point.accuracy is not None and point.accuracy >= target), None)
    answers = sum(one.answers for one in metrics.exchanges)
    ages = sum(age * count for one in metrics.exchanges for age, count in enumerate(one.staleness or ()))
    return Outcome(
        policy, points, answers, ages / max(1, answers),
        None if reached is None else reached.seconds, None if reached is None else reached.bytes, last,
    )  # fmt: skip


def play(policy: str, settings: RunSettings, fleet: Fleet, seed: int = 0) -> Outcome:
    """One run in processes of its own, from its start to its end."""
    ends = time.monotonic() + END_S

    def in_time(view: RunView, _rounds: list[Round]) -> None:
        assert time.monotonic() < ends, f"{policy}: round {view.round} after {END_S:g} s"

    with tempfile.TemporaryDirectory() as name, Lab(Path(name)) as lab:
        lab.serve()
        learns = ("--task", "digits", "--seed", str(seed))
        run = lab.start_run(lab.first_model(learns), settings)
        invite = lab.write_invite("all", len(fleet.links))
        for index, link in enumerate(fleet.links):
            share = ("--split", "iid", "--share", f"{index}/{len(fleet.links)}", "--link", link)
            lab.join(client_name(index), invite, [*learns, *share])
        view = lab.follow(run, in_time)
        if view.outcome != "completed":
            console().print(f"{policy}: {view.state}, {view.reason}")
        return outcome(policy, lab.metrics(run.id), fleet.target)


def picture(outcomes: list[Outcome], target: float, path: Path) -> None:
    """Accuracy against seconds, as PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 4.6), dpi=130, layout="constrained")
        axes = figure.subplots()
        for one in outcomes:
            known = [(point.seconds, point.accuracy) for point in one.points if point.accuracy is not None]
            axes.plot(*zip(*known, strict=True), marker="o", markersize=3, label=one.policy)
        axes.axhline(target, color="#999999", linewidth=0.8)
        axes.set_xlabel("seconds since the first offer")
        axes.set_ylabel("accuracy")
        axes.grid(visible=True, alpha=0.25)
        axes.legend(frameon=False)
        figure.savefig(path, format="png", metadata={"Software": "thinwire"})


def main() -> None:
    """Plays the policies, prints a table, writes it as JSON and the curves as PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="eight clients, six rounds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/stragglers.json"), help="the PNG lies beside it")
    given = parser.parse_args()
    fleet = QUICK if given.quick else FULL
    outcomes = [play(policy, settings, fleet) for policy, settings in fleet.policies().items()]

    titles = (
        "policy",
        "rounds",
        "answers",
        "exchanges old",
        "s per round",
        "accuracy",
        f"s to {fleet.target:g}",
        f"MB to {fleet.target:g}",
    )
    shown = Sheet(f"{len(fleet.links)} clients, {fleet.stragglers} stragglers", titles, text=("policy",))
    for one in outcomes:
        rounds = len(one.points) - 1
        reached = one.seconds_to_target is not None
        shown.add_row(
            one.policy, str(rounds), str(one.answers), f"{one.staleness:.1f}",
            f"{one.points[-1].seconds / max(1, rounds):.1f}",
            "-" if one.final_accuracy is None else f"{one.final_accuracy:.3f}",
            f"{one.seconds_to_target:.1f}" if reached else "-",
            f"{(one.bytes_to_target or 0) / 1e6:.2f}" if reached else "-",
        )  # fmt: skip
    console().print(shown)
    results = {"links": fleet.links, "target": fleet.target, "policies": [asdict(one) for one in outcomes]}
    given.out.write_text(json.dumps(results, indent=2) + "\n")
    picture(outcomes, fleet.target, given.out.with_suffix(".png"))
    console().print(f"written: {given.out}, {given.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
