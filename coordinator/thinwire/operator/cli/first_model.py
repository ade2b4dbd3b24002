"""What a run starts from: a file, or the model of another run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from thinwire.methods.arrays import Model
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.methods.seed_scalars.stored import is_history
from thinwire.methods.sparse_masks.masked_model import expand, is_packed, needs_start
from thinwire.operator.client import Coordinator
from thinwire.protocol.exit_codes import Exit

from .options import fail

OF_RUN: Final = ("best:", "last:")


@contextmanager
def first_model(coordinator: Coordinator, model: str) -> Iterator[Path]:
    """The file; that of another run, `best:RUN`, `best:RUN:SCORE` or `last:RUN`, lies in a folder of its own meanwhile.

    A model of masks is written out. One that only the clients' own start makes whole ends the process.
    """
    if Path(model).is_file() or not model.startswith(OF_RUN):
        yield Path(model)
        return
    which, run, *score = model.split(":", 2)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        coordinator.pull(run, file, (score or [""])[0] if which == "best" else None)
        arrays = read_model(file)
        if is_history(arrays) or (is_packed(arrays) and needs_start(arrays)):
            fail(
                f"--model {model}: the run's model is stored as what has become of its first one. Pull it, make it "
                "whole with thinwire-client model expand, and start from that file",
                Exit.USAGE,
            )
        if is_packed(arrays):
            whole = expand(arrays)
            file.write_bytes(model_bytes(Model(whole, whole.buffers, arrays.frozen)))
        yield file
