"""The report of a comparison: a table, a picture, a page, the figures."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from .compare import Comparison
from .console import in_bytes, in_figure, in_percent
from .demo import Fleet, Result
from .report import summary
from .rounds import Round

PLOT = "accuracy-vs-bytes.png"
TARGET_SHARE = 0.98
COLUMNS = (
    "run", "accuracy", "personal", "up", "down", "framing", "bits/param up", "bits/param down", "seconds", "to target",
)  # fmt: skip


def comparison_facts(comparison: Comparison, fleet: Fleet, target: float | None) -> dict[str, Any]:
    """The figures. `target`: an accuracy; None takes 0.98 of the best one that the first run reached."""
    if target is None:
        target = TARGET_SHARE * max((accuracy for accuracy, _ in _curve(comparison.results[0])), default=0.0)
    runs = []
    for result in comparison.results:
        facts = summary(result, fleet)
        reached = next((cost for accuracy, cost in _curve(result) if accuracy >= target), None)
        del facts["kernel_bytes"], facts["unaccounted_bytes"]  # of all runs together: see below
        runs.append(
            {"run": result.view.name, "outcome": result.view.outcome, "reason": result.view.reason}
            | facts
            | {"bytes_to_target": reached}
        )
    return {
        "thinwire": version("thinwire"),
        "target_accuracy": target,
        "unaccounted_bytes": comparison.unaccounted_bytes,
        "runs": runs,
    }


def _curve(result: Result) -> list[tuple[float, int]]:
    """Accuracy of each round's model, and the wire bytes the run had cost when the model was complete."""
    return [_point(one) for one in result.rounds if one.accuracy is not None and one.total_bytes]


def _point(one: Round) -> tuple[float, int]:
    return (one.accuracy or 0.0, one.total_bytes)


def comparison_cells(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row per run, in the order of `COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for run in facts["runs"]:
        wire = run["uplink_bytes"] + run["downlink_bytes"]
        to_target = run["bytes_to_target"]
        rows.append(
            (
                run["run"] if run["outcome"] == "completed" else f"{run['run']} ({run['outcome']})",
                in_figure(run["accuracy"]),
                in_figure(run["personal_accuracy"]),
                in_bytes(run["uplink_bytes"]),
                in_bytes(run["downlink_bytes"]),
                in_percent(run["framing_bytes"], wire),
                f"{run['bits_per_parameter_up']:.2f}",
                f"{run['bits_per_parameter_down']:.2f}",
                f"{run['seconds']:.0f}",
                "-" if to_target is None else in_bytes(to_target),
            )
        )
    return rows


def write_comparison(comparison: Comparison, fleet: Fleet, facts: dict[str, Any], folder: Path) -> None:
    """`report.html`, `accuracy-vs-bytes.png`, `comparison.json`. Raises: `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{fleet.task}, {fleet.clients} clients, {fleet.split}, seed {fleet.seed}"
    picture = plot_comparison(comparison.results, facts["target_accuracy"], title)
    (folder / PLOT).write_bytes(picture)
    rounds = {result.view.name: [one.plain() for one in result.rounds] for result in comparison.results}
    (folder / "comparison.json").write_text(json.dumps(facts | {"rounds": rounds}, indent=2) + "\n")
    environment = Environment(loader=PackageLoader("thinwire.coordinator"), autoescape=True)
    page = environment.get_template("comparison.html").render(
        title=title,
        facts=facts,
        link=fleet.link,
        picture=base64.b64encode(picture).decode(),
        columns=COLUMNS,
        rows=comparison_cells(facts),
        settings=[(result.view.name, result.view.settings) for result in comparison.results],
    )
    (folder / "report.html").write_text(page)


def plot_comparison(results: Sequence[Result], target: float, title: str) -> bytes:
    """A PNG: one curve per run, accuracy against wire bytes, log scale; the target as a dashed line."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 4.8), dpi=140, layout="constrained")
        axes = figure.subplots()
        for result in results:
            curve = _curve(result)
            if curve:
                accuracies, costs = zip(*curve, strict=True)
                axes.plot(costs, accuracies, marker="o", markersize=3, linewidth=1.5, label=result.view.name)
        axes.axhline(target, color="#5b6675", linewidth=1, linestyle="--")
        axes.set_xscale("log")
        axes.set_xlabel("wire bytes, all clients, up and down (log scale)")
        axes.set_ylabel("accuracy")
        axes.set_title(title, loc="left", fontsize=11)
        axes.xaxis.set_major_formatter(lambda value, _: in_bytes(value))
        axes.xaxis.set_minor_formatter(lambda value, _: in_bytes(value) if f"{value:.0e}"[0] in "25" else "")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend(frameon=False)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": "thinwire"})
    return out.getvalue()
