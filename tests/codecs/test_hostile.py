"""A stranger's bytes cost nothing: every golden payload, broken, gives `CodecError` or arrays that fit the spec, in
memory that the spec allows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs import Arrays, Chain, CodecError, Spec

from .write_vectors import FOLDER, arrays_of

NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))

PER_BYTE = 24
TABLES = 1 << 20
"""Peak bytes of a decode: so many for each byte of the largest arrays that the spec allows, and these beside."""

# What counters, lengths and headers of every format look like at their largest.
TOKENS = [b"\xff" * 8, b"\x00" * 8, b"\xdd\xff\xff\xff\xff", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\x0a\xff"]


@cache
def _vector(name: str) -> tuple[Chain, Spec, Arrays | None, int, bytes]:
    found = json.loads((FOLDER / f"{name}.json").read_text())
    spec = Spec.from_plain(found["spec"])
    reference = None if found["reference"] is None else arrays_of(found["reference"], spec)
    return Chain.from_plain(found["chain"]), spec, reference, found["seed"], (FOLDER / f"{name}.bin").read_bytes()


@st.composite
def broken(draw: st.DrawFn, payload: bytes) -> bytes:
    """A payload that has been cut, flipped, grown, spliced with another one, or is none at all."""
    data = bytearray(payload)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["cut", "flip", "write", "insert", "splice", "drop", "noise"])):
            case "cut":
                del data[at:]
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "write":
                token = draw(st.sampled_from(TOKENS))
                data[at : at + len(token)] = token
            case "insert":
                data[at:at] = draw(st.binary(max_size=20))
            case "splice":
                other = _vector(draw(st.sampled_from(NAMES)))[-1]
                data[at:] = other[draw(st.integers(0, len(other))) :]
            case "drop":
                del data[at : at + draw(st.integers(1, 20))]
            case "noise":
                data = bytearray(draw(st.binary(max_size=200)))
    return bytes(data)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(data=st.data())
def test_broken_payloads_cost_nothing(name: str, data: st.DataObject) -> None:
    chain, spec, reference, seed, payload = _vector(name)
    if data.draw(st.booleans()):
        spec = spec.with_optional()
    hostile = data.draw(broken(payload))
    tracemalloc.start()
    try:
        decoded: Arrays | None = chain.decode(hostile, spec, reference=reference, seed=seed)
    except CodecError:
        decoded = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= PER_BYTE * spec.max_bytes + len(hostile) + TABLES
    if decoded is not None:
        spec.check(decoded)


# A process whose address space may grow by 96 MiB decodes payloads that promise far more.
LIMITED = """
import json, resource, sys
from thinwire.codecs import Chain, CodecError, Spec

cases = [(Chain.parse(text), Spec.from_plain(spec), bytes.fromhex(data)) for text, spec, data in json.load(sys.stdin)]
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (96 << 20), size + (96 << 20)))
try:
    bytearray(128 << 20)
    print("the limit is none")
except MemoryError:
    pass
for chain, spec, data in cases:
    try:
        chain.decode(data, spec)
        print("decoded")
    except CodecError as error:
        print(error.reason)
"""

SMALL = {"m": ["bool", [1000]]}
FRAME = b"\x01\x28\xb5\x2f\xfd\xa0"  # Zstandard's magic number, then a content size of four bytes
HOSTILE: list[tuple[str, Any, bytes, str]] = [
    ("zstd", SMALL, FRAME + (1 << 30).to_bytes(4, "little") + bytes(900), "too-large"),
    ("zstd", SMALL, FRAME + (900).to_bytes(4, "little") + bytes(900), "malformed"),
    # A window of 3.75 TiB, declared beside a small content size.
    ("zstd", SMALL, b"\x01\x28\xb5\x2f\xfd\x80\xff" + (900).to_bytes(4, "little") + bytes(900), "malformed"),
    ("", SMALL, b"\xdd\xff\xff\xff\xff" + bytes(900), "malformed"),
    ("", {"m": ["bool", [{"max": 1 << 33}]]}, b"\x91\x92\x00\xcf" + (1 << 33).to_bytes(8, "big"), "malformed"),
    ("golomb", SMALL, b"\x91\x92\x00\x06\x01\x01\xe8\x07\xff\xff", "malformed"),
    ("entropy", SMALL, b"\x91\x92\x01\x05\x01\x80\x40\xff\xff", "malformed"),
    ("entropy", {"k": ["u8", [{"max": 1 << 33}]]}, b"\x91\x92\x00\x07\x00\xff\xff\xff\xff\x1f\x08", "malformed"),
    ("entropy", {"k": ["u8", [{"max": 1 << 33}]]}, b"\x91\x92\x00\x0a\x01\xff\xff\xff\xff\x1f\x00\x00\x00\x00\x01",
     "malformed"),
    ("entropy(adaptive)", {"k": ["u8", [{"max": 1 << 33}]]},
     b"\x91\x92\x00\x0a\x03\xff\xff\xff\xff\x1f\x00\x00\x00\x00\x01", "malformed"),
    ("low_rank(ends=False)", {"w": ["f32", [2000, 2000]]}, b"\x92\x92\x01\xcd\x03\xe7\x92\x02\xcd\x03\xe7",
     "malformed"),
]  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux: an address space that can be limited")
def test_promises_are_not_allocated() -> None:
    cases = [(text, spec, data.hex()) for text, spec, data, _ in HOSTILE]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], input=json.dumps(cases), capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert done.stdout.split() == [reason for *_, reason in HOSTILE]
