"""Serves a coordinator with the toy method beside the others: `serve.py DATA_DIR PORT [name=value ...]`."""

from __future__ import annotations

import sys
from pathlib import Path

import thinwire.methods

thinwire.methods.__path__.append(str(Path(__file__).parent / "methods_root" / "thinwire" / "methods"))

from thinwire.coordinator.server import CannotServeError, serve  # noqa: E402
from thinwire.coordinator.settings import ServeSettings  # noqa: E402

if __name__ == "__main__":
    folder, port, *options = sys.argv[1:]
    chosen = dict(option.split("=", 1) for option in options)
    try:
        serve(ServeSettings.model_validate({"data_dir": folder, "port": int(port), **chosen}), print)
    except CannotServeError as error:
        sys.exit(str(error))
