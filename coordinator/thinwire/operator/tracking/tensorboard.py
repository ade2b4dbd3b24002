"""TensorBoard's event files, by tensorboardX: a folder for each run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from thinwire.protocol.messages import ExchangeMetrics, RunView

from .figures import TrackingError, points_of, settings_of

SUFFIX: Final = ".thinwire"


class TensorBoard:
    """`folder`: what `tensorboard --logdir` shows. Raises: `TrackingError` where tensorboardX is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise TrackingError(f"pip install 'thinwire[tensorboard]' ({error})") from None
        self._make = SummaryWriter
        self._folder = folder

    def tell(self, view: RunView, exchanges: list[ExchangeMetrics]) -> None:
        """In the place of what was written of this run. Raises: `TrackingError`."""
        folder = self._folder / f"{view.name}-{view.id}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob(f"*{SUFFIX}"):
                old.unlink(missing_ok=True)
            with self._make(logdir=str(folder), filename_suffix=SUFFIX, write_to_disk=True) as writer:
                rows = "\n".join(f"| {name} | {value} |" for name, value in settings_of(view).items())
                writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", 0, walltime=view.created_at)
                for point in points_of(view, exchanges):
                    for name, value in sorted(point.figures.items()):
                        writer.add_scalar(name, value, point.round, walltime=view.created_at + point.seconds)
        except OSError as error:
            raise TrackingError(f"{folder}: {error.strerror or error}") from None
