"""A process that stages and decides outcomes without end, saying after each step what is done. Run by `test_memory`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from thinwire.edge_client.memory.folder import Folder
from thinwire.edge_client.memory.runs import RunMemory, StagedOutcome


def outcome(number: int) -> StagedOutcome:
    """Every array of outcome `number` says so in each element."""
    return StagedOutcome(
        task=f"task{number:06}",
        exchange=number,
        examples=number,
        metrics={"loss": float(number)},
        payload=number.to_bytes(4, "little") * 5000,
        accepted={"memory": np.full(20_000, 2 * number, np.int64)},
        refused={"memory": np.full(20_000, 2 * number + 1, np.int64)},
    )


def decide(run: RunMemory, number: int) -> None:
    run.decide(f"task{number:06}", "accepted" if number % 2 else "refused")
    print(f"decided {number}", flush=True)


def main(path: Path) -> None:
    run = Folder(path).run("run001")
    if run.state.staged is not None:
        decide(run, int(run.state.staged.removeprefix("task")))
    number = 0 if run.state.decided is None else int(run.state.decided[0].removeprefix("task"))
    while True:
        number += 1
        run.hold(number, {"model": {"w": np.full(20_000, number, np.int64)}})
        print(f"held {number}", flush=True)
        run.stage(outcome(number))
        print(f"staged {number}", flush=True)
        run.remember_upload("upload01")
        decide(run, number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
