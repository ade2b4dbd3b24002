"""What the codecs cost and how fast they are: `python -m benchmarks.codecs [--quick]`.

Masks with one probability and with known probabilities per element, beside packed bits, Zstandard and the entropy
coder of `constriction` (with the exact probability of every element; x86-64 only), and arrays of a trained network.
Entropy: the empirical one, of each array or, where probabilities are known, of each level; of quantised arrays that of
their symbols. Seconds are the shortest of a few calls on one thread; memory is the peak of what a call allocates.

Writes benchmarks/codecs.json, and from it docs/codecs.md; `--page` writes the page alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.codecs_inputs import Input, entropy_of_symbols, masks, numbers
from benchmarks.codecs_page import page, tables
from thinwire.codecs import Array, Chain, Spec
from thinwire.operator.console import console

OUT = Path("benchmarks/codecs.json")
PAGE = Path("docs/codecs.md")
SIZES = (10**5, 10**6, 10**7)
QUICK_SIZES = (10**5,)


@dataclass(frozen=True, slots=True)
class Measured:
    """One chain on one input. `ratio`: size to entropy, None where there is none; `error`: root mean square, relative
    to that of the input; seconds and peak bytes of one call.
    """

    input: str
    values: int
    bytes: int
    chain: str
    bits_per_value: float
    ratio: float | None
    error: float
    encode_s: float
    decode_s: float
    encode_peak: int
    decode_peak: int


def measure(item: Input, text: str) -> Measured:
    """A chain of ours."""
    chain, spec, seed = Chain.parse(text), Spec.of(item.arrays), item.seed
    encode_s, payload, encode_peak = _timed(
        lambda: chain.encode(item.arrays, spec, reference=item.reference, seed=seed), item.values
    )
    decode_s, decoded, decode_peak = _timed(
        lambda: chain.decode(payload, spec, reference=item.reference, seed=seed), item.values
    )
    entropy = item.entropy or entropy_of_symbols(chain, item)
    return Measured(
        item.name, item.values, sum(array.nbytes for array in item.arrays.values()), text or "container",
        8 * len(payload) / item.values, len(payload) / entropy if entropy else None,
        max(_error(array, decoded[name]) for name, array in item.arrays.items()),
        encode_s, decode_s, encode_peak, decode_peak,
    )  # fmt: skip


def measure_constriction(item: Input, probabilities: Array) -> Measured | None:
    """Its coder of single bits, each with its own probability; None where it is not installed."""
    try:
        import constriction
    except ImportError:
        return None
    mask = item.arrays["w"].astype(np.int32)
    family, AnsCoder = constriction.stream.model.Bernoulli(perfect=False), constriction.stream.stack.AnsCoder  # noqa: N806

    def encode() -> Any:
        coder = AnsCoder()
        coder.encode_reverse(mask, family, probabilities)
        return coder.get_compressed()

    encode_s, words, encode_peak = _timed(encode, item.values)
    decode_s, decoded, decode_peak = _timed(lambda: AnsCoder(words).decode(family, probabilities), item.values)
    assert (decoded == mask).all()
    return Measured(
        item.name, item.values, item.values, "constriction", 8 * words.nbytes / item.values,
        words.nbytes / item.entropy, 0.0, encode_s, decode_s, encode_peak, decode_peak,
    )  # fmt: skip


def _timed(call: Callable[[], Any], values: int) -> tuple[float, Any, int]:
    """The shortest of a few calls in seconds, what it returns, and the peak of what one more allocates."""
    seconds, result = [], None
    for _ in range(3 if values >= 10**6 else 7):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return min(seconds), result, peak


def _error(exact: Array, found: Array) -> float:
    if exact.dtype.kind != "f" or not exact.size:
        return 0.0
    wide = exact.astype(np.float64)
    return float(np.linalg.norm(found - wide) / (np.linalg.norm(wide) or 1.0))


def measurements(sizes: tuple[int, ...]) -> Iterator[Callable[[], Measured | None]]:
    """Everything that is measured, one after the other."""
    for item, probabilities in masks(sizes):
        for text in item.chains:
            yield lambda item=item, text=text: measure(item, text)  # type: ignore[misc]
        yield lambda item=item, given=probabilities: measure_constriction(item, given)  # type: ignore[misc]
    for item in numbers():
        for text in item.chains:
            yield lambda item=item, text=text: measure(item, text)  # type: ignore[misc]


def main() -> None:
    """Measures, prints a table, writes JSON and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small masks only, and nothing is written")
    parser.add_argument("--page", action="store_true", help="write the page from the stored results")
    given = parser.parse_args()
    screen = console()
    if not given.page:
        calls = measurements(QUICK_SIZES if given.quick else SIZES)
        rows = [row for call in track(list(calls), "measuring", console=console(stderr=True)) if (row := call())]
        machine = f"{platform.machine()}, {os.cpu_count()} processors, numpy {np.__version__}"
        results = {"machine": machine, "rows": [asdict(row) for row in rows]}
        for table in tables(results):
            table.show(screen)
        if given.quick:
            return
        OUT.write_text(json.dumps(results, indent=1) + "\n")
        screen.print(f"written: {OUT}")
    PAGE.write_text(page(json.loads(OUT.read_text())))
    screen.print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
