"""Coverage-guided fuzzing of every decoder: `python -m tests.codecs.fuzz.decoders [SECONDS]`, 600 by default.

Needs the extra `fuzz` (Atheris; Linux on x86-64). The first byte of an input chooses a golden vector, whose chain,
spec, reference and seed are used; from 128 on with all arrays optional. What follows is the payload. Anything but
`CodecError` or arrays that fit the spec, memory beyond `MEMORY_MB`, and a decode of more than `SLOWEST_S` are findings:
the input is written to the working folder as `crash-…`, `oom-…` or `timeout-…`, and the exit code is not 0.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["thinwire.codecs"]):
    from thinwire.codecs import Arrays, Chain, CodecError, Spec

from tests.codecs.write_vectors import FOLDER, arrays_of

MEMORY_MB = 512
SLOWEST_S = 10


def _vectors() -> list[tuple[Chain, Spec, Arrays | None, int, bytes]]:
    """Of every golden vector its chain, spec, reference, seed and payload."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        vector = json.loads(path.read_text())
        spec = Spec.from_plain(vector["spec"])
        reference = None if vector["reference"] is None else arrays_of(vector["reference"], spec)
        payload = path.with_suffix(".bin").read_bytes()
        found.append((Chain.from_plain(vector["chain"]), spec, reference, vector["seed"], payload))
    return found


VECTORS = _vectors()


def decode_one(data: bytes) -> None:
    """What the fuzzer calls."""
    if not data:
        return
    chain, spec, reference, seed, _ = VECTORS[data[0] % 128 % len(VECTORS)]
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
        for index, (*_, payload) in enumerate(VECTORS):
            (Path(corpus) / f"vector-{index}").write_bytes(bytes([index]) + payload)
        limits = [f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SLOWEST_S}", "-max_len=4096"]
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", corpus], decode_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
