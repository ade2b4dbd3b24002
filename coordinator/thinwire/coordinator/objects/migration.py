"""Data folders in which payloads were not yet apart by run: payloads/HEX becomes payloads/RUN/HEX."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from thinwire.machine.files import read_mapped

from .local import LocalObjects
from .objects import payload

_FLAT: Final = re.compile("[0-9a-f]{64}")


def move_payloads(objects: LocalObjects, needed: Iterable[tuple[str, bytes]]) -> int:
    """Gives each run the payloads it needs (run, digest); how many files were left where they are.

    What no run needs goes, as it did at every start. Where no run needs any, the database is not the one that these
    files belong to, and all stay. Can be repeated after a crash. Raises: `OSError`.
    """
    flat = [path for path in (objects.root / "payloads").iterdir() if _FLAT.fullmatch(path.name) and path.is_file()]
    runs: defaultdict[str, set[str]] = defaultdict(set)
    for run, digest in needed:
        runs[digest.hex()].add(run)
    if not runs:
        return len(flat)
    for path in flat:
        names = [payload(run, bytes.fromhex(path.name)) for run in sorted(runs[path.name])]
        for name in names[1:]:
            objects.put(name, [memoryview(read_mapped(path))], durable=True)
        if names:
            objects.take(path, names[0], durable=True)
        else:
            path.unlink()
    return 0
