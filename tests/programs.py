"""Programs that some tests need beside Python: of this machine, or of a wheel in this environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def program(name: str) -> str | None:
    """Where it is; None where it is not."""
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent), "/usr/sbin"]))
