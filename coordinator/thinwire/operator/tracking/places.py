"""Where `--report-to` sends figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .figures import Tracker, TrackingError


def trackers(places: Iterable[str]) -> list[Tracker]:
    """`mlflow:URL` of a tracking server, `tensorboard:FOLDER`. Raises: `TrackingError`."""
    return [_tracker(place) for place in places]


def _tracker(place: str) -> Tracker:
    kind, colon, where = place.partition(":")
    if colon and where and kind == "tensorboard":
        from .tensorboard import TensorBoard

        return TensorBoard(Path(where))
    if colon and where and kind == "mlflow":
        from .mlflow import Mlflow

        return Mlflow(where)
    raise TrackingError(f"{place}: write mlflow:URL or tensorboard:FOLDER")
