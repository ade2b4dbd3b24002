"""Answers at two bits, decoded in threads or in processes: `python -m benchmarks.decoding`.

Two workers each, the two ways in turn, the same stored answers: `quantise(2), entropy` of normal numbers. Shown:
answers a second, and how long the event loop of the process that hands them over is kept from its other work meanwhile:
the median and the longest delay of a timer of 5 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.marked import fill
from benchmarks.tables import Table
from thinwire.codecs import Chain, Spec
from thinwire.coordinator.decoding.coded import Coded, Decode, decode
from thinwire.coordinator.decoding.processes import Processes
from thinwire.machine.workers import Workers
from thinwire.operator.console import console

SIZES: Final = {1_000: 1_000, 10_000: 1_000, 100_000: 1_000, 1_000_000: 100}
"""Numbers in an answer -> answers."""
CHAIN: Final = Chain.parse("quantise(2), entropy")
DIFFERENT: Final = 10
"""Stored answers of each size, taken in turn."""
WORKERS: Final = 2
TICK_S: Final = 0.005
PAGE: Final = Path("docs/scale.md")
COMMAND: Final = "python -m benchmarks.decoding --write"


@dataclass(frozen=True, slots=True)
class Measured:
    """`seconds`: of all answers; `delays`: of the timer, seconds each."""

    numbers: int
    answers: int
    way: str
    seconds: float
    delays: list[float]

    @property
    def row(self) -> tuple[str, ...]:
        median, longest = 1000 * statistics.median(self.delays), 1000 * max(self.delays)
        rate = f"{self.answers / self.seconds:.3g}"
        return f"{self.numbers:,}", f"{self.answers:,}", self.way, rate, f"{median:.1f} ms", f"{longest:.0f} ms"


def stored(folder: Path, numbers: int) -> list[Coded]:
    """So many numbers each, as files."""
    found = []
    for seed in range(DIFFERENT):
        arrays = {"weight": np.random.default_rng(seed).standard_normal(numbers).astype(np.float32)}
        data = CHAIN.encode(arrays, Spec.of(arrays), seed=seed)
        path = folder / f"{numbers}-{seed}"
        path.write_bytes(data)
        found.append(Coded(path, hashlib.sha256(data).digest(), Spec.of(arrays), CHAIN, seed, {}, "benchmark", 1))
    return found


@contextmanager
def ways(folder: Path) -> Iterator[dict[str, Decode]]:
    """How answers are decoded, by name."""
    processes = Processes(WORKERS, folder / "decoding")
    try:
        yield {"threads": decode, "processes": processes.decode}
    finally:
        processes.close()


async def measure(way: str, decoder: Decode, coded: list[Coded], answers: int) -> Measured:
    """Decodes so many, and watches the loop."""
    workers, delays = Workers(WORKERS), list[float]()

    async def watch() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(TICK_S)
            delays.append(max(0.0, time.perf_counter() - begun - TICK_S))

    await asyncio.gather(*(workers.run(decoder, coded[0]) for _ in range(WORKERS)))
    watching, begun = asyncio.create_task(watch()), time.perf_counter()
    await asyncio.gather(*(workers.run(decoder, coded[index % DIFFERENT]) for index in range(answers)))
    seconds = time.perf_counter() - begun
    watching.cancel()
    workers.close()
    return Measured(coded[0].reply["weight"].max_elements, answers, way, seconds, delays)


def main() -> None:
    """Measures, prints a table; `--write` puts it into docs/scale.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the answers: less than a minute")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as root, ways(Path(root)) as decoders:
        for numbers, answers in SIZES.items():
            coded = stored(Path(root), numbers)
            for way, decoder in decoders.items():
                found.append(asyncio.run(measure(way, decoder, coded, answers // 20 if given.quick else answers)))
    columns = ("numbers", "answers", "decoded by", "answers a second", "the loop waits", "at most")
    table = Table("two workers, quantise(2), entropy", columns, [one.row for one in found])
    table.show(console())
    if given.write:
        fill(PAGE, COMMAND, table.markdown().strip())


if __name__ == "__main__":
    main()
