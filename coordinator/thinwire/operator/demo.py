"""A run from first model to last by one coordinator and a fleet, all processes of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from thinwire.protocol.settings import RunSettings

from .fleet import Fleet
from .follow import Step
from .lab import Lab
from .result import Result, result_of


def run_demo(fleet: Fleet, settings: RunSettings, folder: Path, say: Callable[[str], None], step: Step) -> Result:
    """The run's result; all processes have ended. `folder`: empty; data folders and logs of all of them go there.

    Raises: `ChildFailedError`, `ProblemError`, `UnreachableError`, `OSError`.
    """
    began = time.monotonic()
    with Lab(folder) as lab:
        lab.serve()
        say(f"coordinator at {lab.url}")
        if fleet.download:
            # One process fetches the data, and all others find them.
            lab.first_model_of(fleet)
        clients = lab.join_fleet(fleet)
        say(f"{fleet.clients} clients start, logs in {folder / 'logs'}")
        view = lab.start_run(lab.first_model_of(fleet), settings)
        for sentence in view.warnings or ():
            say(f"warning: {sentence}")
        view = lab.follow(view, step)
        if view.outcome == "completed":
            lab.finish(clients)
        kernel = {child.name: lab.kernel(child.name) for child in clients if child.process.poll() == 0}
        model = folder / "model.safetensors"
        return result_of(lab.operator, view, model, kernel=kernel, seconds=time.monotonic() - began)
