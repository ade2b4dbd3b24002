"""`python -m tests.chaos`: kills coordinators and clients at random instants, hundreds of times, and shows what came of
it. Exit code 1 where anything was lost, counted twice or came out different.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from .harness import METHODS, Chaos, HungError

ROUNDS = {"fedavg": 40, "feddkd": 14, "progfed": 40, "sparse_masks": 40, "feddlr": 40, "fd_alu": 80, "seed_scalars": 40}
"""Of each run; runs follow each other until there have been enough kills."""
WRONG = ("counted_twice", "acknowledged_lost", "counted_untold")
COLUMNS = {
    "method": 13,
    "coordinator": 12,
    "client": 7,
    "both": 5,
    "starts": 7,
    "seconds": 8,
    "runs": 5,
    "exchanges": 10,
    "answers": 8,
    "twice": 6,
    "lost": 5,
    "untold": 7,
    "model": 10,
    "memories": 10,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--method", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--kills", type=int, default=100, help="per method")
    parser.add_argument("--seconds", type=float, default=1800, help="per method, after which no further kill comes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--span", type=float, default=0.5, help="seconds within which a kill comes after a restart")
    parser.add_argument("--start", choices=["fork", "exec"], default="fork", help="see tests/chaos/processes.py")
    parser.add_argument("--keep", type=Path, help="leave logs and data folders here")
    given = parser.parse_args()
    rows, clean = [], True
    for method in given.method:
        with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
            folder = (given.keep or Path(scratch)) / method
            row, fine = _one(method, folder, given)
            rows.append(row)
            clean = clean and fine
    print("\n" + "".join(f"{name:>{width}}" for name, width in COLUMNS.items()))
    print("\n".join(rows))
    return 0 if clean else 1


def _one(method: str, folder: Path, given: argparse.Namespace) -> tuple[str, bool]:
    begun = time.monotonic()
    with Chaos(folder, method, given.seed, given.start, span_s=given.span) as chaos:
        try:
            while (done := sum(chaos.kills.values())) < given.kills and time.monotonic() - begun < given.seconds:
                verdict = chaos.run(ROUNDS[method], given.kills - done)
                print(
                    f"{method}  {sum(chaos.kills.values())} kills  {time.monotonic() - begun:.0f} s  {verdict}",
                    flush=True,
                )
        except HungError as error:
            print(f"{method}: {error}", file=sys.stderr, flush=True)
            return f"{method:>13} hung after {dict(chaos.kills)}", False
    found = chaos.verdicts
    sums = {name: sum(getattr(one, name) for one in found) for name in ("exchanges", "answers", *WRONG)}
    same = all(one.model_identical for one in found), not any(one.memories_wrong for one in found)
    cells = [
        *(method, chaos.kills["coordinator"], chaos.kills["client"], chaos.kills["both"], chaos.starts),
        *(f"{time.monotonic() - begun:.0f}", len(found), *sums.values()),
        *("identical" if one else "DIFFERENT" for one in same),
    ]
    row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True))
    return row, all(one.clean for one in found) and sum(chaos.kills.values()) >= given.kills


if __name__ == "__main__":
    sys.exit(main())
