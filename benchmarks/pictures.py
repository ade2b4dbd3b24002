"""Pictures of experiments: accuracy against wire bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.cells import Outcome
from thinwire.coordinator.console import in_bytes

COLOURS = ("#444444", "#999999", "#0b6e99", "#c2410c", "#15803d", "#7e22ce", "#b45309", "#be185d", "#0f766e", "#1d4ed8")


def fronts(groups: Mapping[str, Sequence[Outcome]], title: str, path: Path, *, ylabel: str = "test accuracy") -> None:
    """A PNG: for each setting the curve of its first seed, accuracy of each round's model at the bytes it had cost."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 4.6), dpi=130, layout="constrained")
        axes = figure.subplots()
        for index, (name, outcomes) in enumerate(groups.items()):
            points = [(cost, accuracy) for cost, accuracy in outcomes[0].curve if cost]
            if points:
                style = "--" if index >= len(COLOURS) else "-"
                axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3, label=name,
                          color=COLOURS[index % len(COLOURS)])  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlabel("wire bytes, all clients, up and down (log scale)")
        axes.set_ylabel(ylabel)
        axes.set_title(title, loc="left", fontsize=10)
        axes.xaxis.set_major_formatter(lambda value, _: in_bytes(value))
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend(fontsize=8, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", metadata={"Software": "thinwire"})
