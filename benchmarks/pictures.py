"""Pictures of experiments: accuracy against wire bytes or rates, cost against clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.outcomes import Outcome
from thinwire.machine.quantities import in_bytes

COLOURS = (
    *("#444444", "#999999", "#0b6e99", "#c2410c", "#15803d", "#7e22ce", "#b45309"),
    *("#be185d", "#0f766e", "#1d4ed8", "#64748b", "#84cc16", "#db2777", "#92400e"),
)


INSIDE = 8
"""Entries for which a legend finds room among the curves."""


@contextmanager
def _axes(title: str, xlabel: str, ylabel: str, path: Path) -> Iterator[Any]:
    """Axes with logarithmic x; what is drawn becomes a PNG at `path`."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 4.6), dpi=130, layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        yield axes
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.set_title(title, loc="left", fontsize=10)
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.grid(visible=True, which="both", alpha=0.25)
        if len(axes.get_legend_handles_labels()[1]) > INSIDE:
            figure.legend(fontsize=7, frameon=False, handlelength=4, loc="outside right upper")
        else:
            axes.legend(fontsize=8, frameon=False, handlelength=4)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", metadata={"Software": "thinwire"})


def fronts(groups: Mapping[str, Sequence[Outcome]], title: str, path: Path, *, ylabel: str = "test accuracy") -> None:
    """A PNG: for each setting the curve of its first seed, accuracy of each round's model at the bytes it had cost."""
    with _axes(title, "wire bytes, all clients, up and down (log scale)", ylabel, path) as axes:
        for index, (name, outcomes) in enumerate(groups.items()):
            points = [(cost, accuracy) for cost, accuracy in outcomes[0].curve if cost]
            if points:
                style = "--" if index >= len(COLOURS) else "-"
                axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3, label=name,
                          color=COLOURS[index % len(COLOURS)])  # fmt: skip
        axes.xaxis.set_major_formatter(lambda value, _: in_bytes(value))


def scatter(series: Mapping[str, Sequence[tuple[float, float, str]]], title: str, xlabel: str, path: Path) -> None:
    """A PNG: x, accuracy and a word beside each point, one colour and line per series."""
    with _axes(title, f"{xlabel} (log scale)", "test accuracy", path) as axes:
        for colour, (name, points) in zip(COLOURS[2:], series.items(), strict=False):
            ordered = sorted(points)
            axes.plot([x for x, _, _ in ordered], [y for _, y, _ in ordered], "-", marker="o", markersize=4,
                      linewidth=0.8, color=colour, label=name)  # fmt: skip
            for x, y, word in ordered:
                axes.annotate(word, (x, y), xytext=(3, 4), textcoords="offset points", fontsize=7, color=colour)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]], title: str, xlabel: str, ylabel: str, path: Path
) -> None:
    """A PNG: x and y from 0 on, one colour and line per series."""
    with _axes(title, xlabel, ylabel, path) as axes:
        for colour, (name, points) in zip(COLOURS[2:], series.items(), strict=False):
            axes.plot(*zip(*sorted(points), strict=True), "-", marker="o", markersize=4, color=colour, label=name)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
