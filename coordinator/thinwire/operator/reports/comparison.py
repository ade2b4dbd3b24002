"""The report of a comparison: a table, a picture, a page, the figures."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from thinwire.machine.quantities import in_bytes
from thinwire.methods.rounds import ACCURACY, bytes_until, usual_target
from thinwire.operator.compare import Comparison
from thinwire.operator.console import in_bits, in_figure, in_percent
from thinwire.operator.fleet import Fleet
from thinwire.operator.result import Result
from thinwire.operator.run_file import as_toml, chosen

from .page import filled
from .run import GLOBAL, PLOT, summary

# Okabe, Ito 2008: told apart also by colour-blind eyes.
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00")
COLUMNS = (
    "run", "accuracy", "personal", "up", "down", "framing", "bits/param", "seconds", "to target",
    "saved",
)  # fmt: skip
OWN = "*"
"""Marks what was measured of models that stay on the clients: no figure of a global model."""
NOTES = (
    f"{OWN} no global model: the mean of the clients' own models on the common test examples",
    "personal: the same models on test examples distributed like each client's own",
)


def columns(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The headings, with the score that the runs are compared by in the place of accuracy."""
    return tuple(facts["score"] if column == "accuracy" else column for column in COLUMNS)


def comparison_facts(comparison: Comparison, fleet: Fleet, target: float | None) -> dict[str, Any]:
    """The figures. `target`: an accuracy, or score; None takes 0.98 of the best one that the baseline reached: the
    first run with a global model, where there is one.

    `bytes_to_target`: wire bytes a run had cost when its model reached the target, None where none did;
    `saved_share`: of the bytes that the baseline needed for it.
    """
    summaries = [summary(result, fleet) for result in comparison.results]
    score = comparison.results[0].score or ACCURACY
    baseline = next((index for index, one in enumerate(summaries) if not is_own(one)), 0)
    if target is None:
        target = usual_target(comparison.results[baseline].by_name, score)
    runs: list[dict[str, Any]] = []
    for result, facts in zip(comparison.results, summaries, strict=True):
        del facts["kernel_bytes"], facts["unaccounted_bytes"]  # of all runs together: see below
        runs.append(
            {"run": result.view.name, "outcome": result.view.outcome, "reason": result.view.reason}
            | facts
            | {"bytes_to_target": bytes_until(result.by_name, target, score)}
        )
    usual = runs[baseline]["bytes_to_target"]
    for run in runs:
        reached = run["bytes_to_target"]
        run["saved_share"] = None if reached is None or usual is None else 1 - reached / usual
    return {
        "thinwire": version("thinwire"),
        "score": score,
        "target_accuracy": target,
        "baseline": runs[baseline]["run"],
        "unaccounted_bytes": comparison.unaccounted_bytes,
        "runs": runs,
        "refused": [{"run": one.settings.name, "reason": one.reason} for one in comparison.refused],
    }


def comparison_cells(facts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per run, in the order of `COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for run in facts["runs"]:
        wire = run["uplink_bytes"] + run["downlink_bytes"]
        to_target, saved = run["bytes_to_target"], run["saved_share"]
        mark = f" {OWN}" if is_own(run) else ""
        rows.append(
            (
                run["run"] if run["outcome"] == "completed" else f"{run['run']} ({run['outcome']})",
                in_figure(run["accuracy"]) + mark,
                in_figure(run["personal_accuracy"]) if is_own(run) else "",
                in_bytes(run["uplink_bytes"]),
                in_bytes(run["downlink_bytes"]),
                in_percent(run["framing_bytes"], wire),
                in_bits(run["bits_per_parameter_up"], run["bits_per_parameter_down"]),
                f"{run['seconds']:.0f}" if run["seconds"] else "",
                "-" if to_target is None else in_bytes(to_target) + mark,
                "-" if saved is None else f"{100 * saved:.1f} %" + mark,
            )
        )
    dashes = ["-"] * (len(COLUMNS) - 1)
    return [*rows, *((f"{one['run']} (refused)", *dashes) for one in facts["refused"])]


def troubles(facts: Mapping[str, Any]) -> list[str]:
    """A sentence for each run that was not made, did not complete, had rounds without a number, or learnt nothing."""
    failed = [run for run in facts["runs"] if run["outcome"] != "completed" and run["reason"]]
    lost = [run for run in facts["runs"] if run["not_finite_rounds"]]
    return [
        *(f"{one['run']}: {one['reason']}" for one in (*failed, *facts["refused"])),
        *(f"{run['run']}: no number was measured after round {_listed(run['not_finite_rounds'])}" for run in lost),
        *(f"{run['run']}: {sentence}" for run in facts["runs"] for sentence in run["learning"]),
    ]


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def is_own(run: Mapping[str, Any]) -> bool:
    """Whether the models that were measured stay on the clients."""
    return bool(run["measured"] != GLOBAL)


def headlines(facts: dict[str, Any]) -> dict[str, str]:
    """What the comparison says first: name -> figure."""
    runs = [run for run in facts["runs"] if not is_own(run)]
    best = max(runs, key=lambda run: run["accuracy"] or 0.0, default=None)
    cheapest = min(
        (run for run in runs if run["bytes_to_target"] is not None), key=lambda r: r["bytes_to_target"], default=None
    )
    found = {f"target {facts['score']}": in_figure(facts["target_accuracy"])}
    if cheapest is not None:
        found["fewest bytes to the target"] = f"{cheapest['run']}, {in_bytes(cheapest['bytes_to_target'])}"
    if best is not None and best["accuracy"] is not None:
        found["best global model"] = f"{best['run']}, {in_figure(best['accuracy'])}"
    return found


def write_comparison(comparison: Comparison, fleet: Fleet, facts: dict[str, Any], folder: Path) -> None:
    """`report.html`, `accuracy-vs-bytes.png`, `comparison.json`, and a file of settings for each run.

    Raises: `OSError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{fleet.task}, {fleet.clients} clients, {fleet.split}, seed {fleet.seed}"
    picture = plot_comparison(comparison.results, facts, title)
    (folder / PLOT).write_bytes(picture)
    rounds = {result.view.name: [one.plain() for one in result.rounds] for result in comparison.results}
    for result in comparison.results:
        (folder / f"{result.view.name}.toml").write_text(as_toml(result.view.settings))
    (folder / "comparison.json").write_text(json.dumps(facts | {"rounds": rounds}, indent=2) + "\n")
    page = filled(
        "comparison.html",
        title=title,
        facts=facts,
        link=fleet.link,
        picture=base64.b64encode(picture).decode(),
        headline=headlines(facts),
        columns=columns(facts),
        notes=NOTES if any(is_own(run) for run in facts["runs"]) else (),
        rows=comparison_cells(facts),
        troubles=troubles(facts),
        settings=[(result.view.name, _listed_settings(result.view.settings)) for result in comparison.results],
    )
    (folder / "report.html").write_text(page)


def _listed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the defaults of a run, and the method's settings that were given, in one."""
    both = {**chosen(settings), **settings.get("settings", {})}
    named = ("name", "method", "settings")
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in both.items() if key not in named
    }


def plot_comparison(results: Sequence[Result], facts: dict[str, Any], title: str) -> bytes:
    """A PNG: one curve per run, accuracy or score against wire bytes, log scale; the target as a dashed line. The
    curves of models that stay on the clients are dotted and named so.
    """
    import matplotlib
    from matplotlib.figure import Figure

    target = facts["target_accuracy"]
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.6, 5.2), dpi=150, layout="constrained")
        axes = figure.subplots()
        for number, (result, run) in enumerate(zip(results, facts["runs"], strict=True)):
            # Where a round has no number the curve has a gap.
            drawn = [one for one in result.rounds if (one.lost or one.accuracy is not None) and one.total_bytes]
            accuracies = [math.nan if one.accuracy is None else one.accuracy for one in drawn]
            costs = [one.total_bytes for one in drawn]
            own = is_own(run)
            label = f"{result.view.name} {OWN}\n(clients' own models)" if own else result.view.name
            # The first is the thickest: where curves are the same, all of them show.
            width = 1.2 + 2 * (len(results) - number) / len(results)
            axes.plot(
                costs, accuracies, label=label, color=COLOURS[number % len(COLOURS)], linewidth=width,
                marker="os^vD<>ph"[number % 9], markersize=2 + 1.5 * width, linestyle=":" if own else "-",
            )  # fmt: skip
        axes.axhline(target, color="#5b6675", linewidth=1, linestyle="--")
        axes.annotate(
            f"target {target:.3f}", (0, target), (4, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=9, color="#5b6675",
        )  # fmt: skip
        if any(one.total_bytes for result in results for one in result.rounds):
            # There is no such scale of nothing, where no run got so far.
            axes.set_xscale("log")
        axes.set_xlabel("wire bytes, all clients, up and down, headers included (log scale)")
        axes.set_ylabel(f"test {facts['score']}")
        axes.set_title(title, loc="left", fontsize=11)
        axes.xaxis.set_major_formatter(lambda value, _: in_bytes(value))
        axes.xaxis.set_minor_formatter(lambda value, _: in_bytes(value) if f"{value:.0e}"[0] in "25" else "")
        axes.tick_params(axis="x", which="minor", labelsize=8)
        axes.grid(visible=True, which="both", alpha=0.2)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": "thinwire"})
    return out.getvalue()
