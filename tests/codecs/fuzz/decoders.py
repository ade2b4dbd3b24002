"""Coverage-guided fuzzing of every decoder: `python -m tests.codecs.fuzz.decoders [SECONDS]`, 600 by default.

Needs the extra `fuzz` (Atheris; Linux on x86-64). The first byte of an input chooses a chain, with spec, reference and
seed: those of the golden vectors, and a few over small arrays, which decode faster; from 128 on with all arrays
optional. What follows is the payload. Anything but `CodecError` or arrays that fit the spec, a process of more than
`MEMORY_MB`, and a decode of more than `SLOWEST_S` are findings: the input is written to the working folder as
`crash-…`, `oom-…` or `timeout-…`, and the exit code is not 0.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["thinwire.codecs"]):
    from thinwire.codecs import Arrays, Chain, CodecError, Spec

from tests.codecs.write_vectors import FOLDER, arrays_of

# Atheris itself keeps about 5 kB per execution where code is instrumented; `test_hostile` bounds what a decode takes.
MEMORY_MB = 4096
SLOWEST_S = 60
SMALL_CHAINS = (
    "entropy", "entropy(counts)", "entropy(counts, sampling=True)", "entropy(previous)", "golomb", "golomb(5), zstd",
    "entropy(adaptive)", "quantise(8, per=bundle, spread=4), entropy(adaptive, sampling=True)",
    "top_k(0.3), quantise(4), entropy", "quantise(1, per=block, block=7), entropy, byte_shuffle(2), zstd",
    "low_rank(ends=False), quantise(8, per=channel), entropy", "quantise(12, rotate=True), entropy",
    "random_k(0.5), cast(bf16), entropy", "delta, cast(f16), byte_shuffle(2), zstd", "pack_bits, entropy",
)  # fmt: skip
Case = tuple[Chain, Spec, Arrays | None, int, bytes]


def _cases() -> Iterator[Case]:
    """Chain, spec, reference, seed and a payload."""
    for path in sorted(FOLDER.glob("*.json")):
        vector = json.loads(path.read_text())
        spec = Spec.from_plain(vector["spec"])
        reference = None if vector["reference"] is None else arrays_of(vector["reference"], spec)
        yield Chain.from_plain(vector["chain"]), spec, reference, vector["seed"], path.with_suffix(".bin").read_bytes()
    random = np.random.default_rng(0)
    arrays = {
        "m": random.random((6, 9)) < 0.2,
        "s": random.random(90) < 0.02,
        "k": random.integers(0, 5, 40).astype(np.uint8),
        "w": random.standard_normal((5, 6)).astype("<f4"),
    }
    counts = {name: array.astype(np.uint8) if array.dtype == np.bool_ else array for name, array in arrays.items()}
    for text in SMALL_CHAINS:
        chain, spec = Chain.parse(text), Spec.of(arrays)
        yield chain, spec, counts, 1, chain.encode(arrays, spec, reference=counts, seed=1)


CASES = list(_cases())


def decode_one(data: bytes) -> None:
    """What the fuzzer calls."""
    if not data:
        return
    chain, spec, reference, seed, _ = CASES[data[0] % 128 % len(CASES)]
    if data[0] >= 128:
        spec = spec.with_optional()
    try:
        decoded = chain.decode(data[1:], spec, reference=reference, seed=seed)
    except CodecError:
        return
    spec.check(decoded)


def main(seconds: int = 600) -> None:
    """Fuzzes until the time is up or something is found."""
    with tempfile.TemporaryDirectory() as corpus:
        for index, (*_, payload) in enumerate(CASES):
            (Path(corpus) / f"case-{index}").write_bytes(bytes([index]) + payload)
        limits = [f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SLOWEST_S}", "-max_len=4096"]
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", corpus], decode_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
