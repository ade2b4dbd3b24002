"""What is said where the libraries of a part are not installed. Needs none itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .exit_codes import Exit


@contextmanager
def explained(extra: str, program: str = "thinwire") -> Iterator[None]:
    """Around what loads a part: a library that is not installed ends the process with the name of the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        if library == "thinwire":
            raise
        print(f"{program}: {library} is not installed; install it by: pip install 'thinwire[{extra}]'", file=sys.stderr)
        raise SystemExit(int(Exit.LOCAL)) from None
