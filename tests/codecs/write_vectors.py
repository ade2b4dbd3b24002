"""Writes golden vectors that do not exist yet: `python -m tests.codecs.write_vectors`. What exists is never rewritten.

A vector is NAME.json (chain, spec, seed, and the arrays, reference and decoded arrays as hex of their elements) and
NAME.bin, the payload.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from thinwire.codecs import DTYPES, Arrays, ArraySpec, Chain, Open, Spec
from thinwire.codecs.counter import uniform_bits

FOLDER: Final = Path(__file__).with_name("vectors")


def _numbers() -> dict[str, Any]:
    steps = np.arange(24)
    return {
        "w": ((steps * 7 % 11 - 5) / 8).astype("<f4").reshape(4, 6),
        "b": np.array([0.5, -0.25, 0.0], "<f4"),
        "k": np.array([1, -2, 3], "<i4"),
        "scalar": np.asarray(1.5, "<f8"),
    }


def _matrices() -> dict[str, Any]:
    rows, columns = np.arange(1, 9), np.arange(1, 11)
    return {"first": np.outer(rows, columns).astype("<f4"), "last": np.eye(2, dtype="<f4")}


def _coded() -> dict[str, tuple[str, Spec, Arrays, Arrays | None]]:
    """What `entropy` makes of masks and symbols, in every mode."""

    def below(name: str, count: int, probability: float) -> Any:
        return uniform_bits(0, name, count) < int(probability * 2**32)

    def sized(name: str, count: int) -> Any:
        """Counts from 0 to 10, most of them at the ends."""
        return (uniform_bits(1, name, count) % 23 * 10 // 22).astype(np.uint8)

    dense = {"w": below("w", 16_000, 0.4), "b": below("b", 50, 0.9)}
    sparse = {"w": below("w", 2_000, 0.01).reshape(40, 50), "v": ~below("v", 700, 0.03)}
    counts = {"w": sized("w", 3_000)}
    drawn = {"w": uniform_bits(0, "w", 3_000) < counts["w"].astype(np.uint64) * 2**32 // 10 + 2**26}
    ramp = sum(uniform_bits(2, str(i), 4_000) % 32 for i in range(4)).astype(np.uint8)
    codes = {"w": ramp.reshape(50, 80), "v": ramp[:900] + np.uint8(9), "k": np.arange(40, dtype="<u2") * 99}
    moved = {"w": np.minimum(counts["w"] + (uniform_bits(3, "w", 3_000) < 2**29), 10).astype(np.uint8)}
    opened = Spec(
        {"m": ArraySpec("bool", (Open(300), 2)), "n": ArraySpec("u8", (Open(99),)), "o": ArraySpec("bool", (4,), True)}
    )
    some = {"m": below("m", 80, 0.5).reshape(40, 2), "n": np.arange(20, dtype=np.uint8)}
    numbers = {"w": (ramp.reshape(50, 80).astype("<f4") - 60) / 8, "b": np.arange(10, dtype="<f4")}
    rows = {"rows": (1 + ramp[:1000].reshape(100, 10)).astype("<f4")}
    noise = {"w": below("n", 100, 0.5)}
    sizes = np.arange(1, 41, dtype="<f4")[:, None] * (1 + np.arange(50, dtype="<f4") % 7)
    lines = {"w": (ramp[:2000].reshape(40, 50).astype("<f4") - 60) * sizes / 64, "b": np.arange(10, dtype="<f4")}
    coarse = "8, per=bundle, spread=1.5"
    return {
        "entropy-bits": ("entropy", Spec.of(noise), noise, None),
        "entropy-arrays": ("entropy", Spec.of(dense), dense, None),
        "entropy-gaps": ("entropy", Spec.of(sparse), sparse, None),
        "entropy-counts": ("entropy(counts)", Spec.of(drawn), drawn, counts),
        "entropy-sampling": ("entropy(counts, sampling=True)", Spec.of(drawn), drawn, counts),
        "entropy-symbols": ("entropy", Spec.of(codes), codes, None),
        "entropy-previous": ("entropy(previous)", Spec.of(moved), moved, counts),
        "entropy-open": ("entropy", opened, some, None),
        "quantised-update": ("quantise(8), entropy", Spec.of(numbers), numbers, None),
        "adaptive-update": (f"quantise({coarse}, rounding=deadzone), entropy(adaptive)", Spec.of(lines), lines, None),
        "adaptive-sampling": (f"quantise({coarse}), entropy(adaptive, sampling=True)", Spec.of(lines), lines, None),
        "sparse-update": ("top_k(0.05), quantise(4), entropy", Spec.of(numbers), numbers, None),
        "labels": ("soft_labels(8), entropy", Spec.of(rows), rows, None),
    }


def cases() -> dict[str, tuple[str, Spec, Arrays, Arrays | None]]:
    """Name -> chain, spec, arrays, reference."""
    numbers = _numbers()
    spec = Spec.of(numbers)
    reference = {
        name: (array * np.asarray(0.5, array.dtype)).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in numbers.items()
    }
    opened = Spec({"rows": ArraySpec("u16", (Open(5), 2)), "mask": ArraySpec("bool", (4,), optional=True)})
    rows = {"rows": np.array([[1, 2], [300, 400], [5, 6]], "<u2")}
    mask = {"m": np.arange(70).reshape(7, 10) % 9 == 4}
    label = {"rows": np.array([[0.1, 0.7, 0.2], [1, 1, 1], [0, 0, 2]], "<f4")}
    masks, labels = Spec.of(mask), Spec.of(label)
    return {
        "container": ("", spec, numbers, None),
        "container-open": ("", opened, rows, None),
        "container-optional": ("", opened, {**rows, "mask": np.array([True, False, False, True])}, None),
        "cast-f16": ("cast(f16)", spec, numbers, None),
        "cast-bf16": ("cast(bf16)", spec, numbers, None),
        "append": ("append", opened, rows, {"rows": rows["rows"][:1]}),
        "delta": ("delta", spec, numbers, reference),
        "byte_shuffle": ("byte_shuffle(4)", spec, numbers, None),
        "zstd-frame": ("zstd(9)", Spec.of({"z": np.zeros(400, "<f4")}), {"z": np.zeros(400, "<f4")}, None),
        "zstd-raw": ("zstd", Spec.of({"b": numbers["b"]}), {"b": numbers["b"]}, None),
        "low_rank": ("low_rank(ends=False)", Spec.of(_matrices()), _matrices(), None),
        "quantise": ("quantise(4, rounding=nearest)", spec, numbers, None),
        "quantise-block": ("quantise(8, per=block, block=4)", spec, numbers, None),
        "quantise-bundle": ("quantise(8, per=bundle, rounding=nearest, spread=0.5)", spec, numbers, None),
        "quantise-rotated": ("quantise(8, rotate=True)", spec, numbers, None),
        "top_k": ("top_k(0.25)", spec, numbers, None),
        "random_k": ("random_k(0.5)", spec, numbers, None),
        "pack_bits": ("pack_bits", masks, mask, None),
        "golomb": ("golomb", masks, mask, None),
        "soft_labels": ("soft_labels(4)", labels, label, None),
        "arg_max": ("soft_labels(1)", labels, label, None),
        "update": ("cast(f16), byte_shuffle(2), zstd", spec, numbers, None),
        **_coded(),
        "broadcast": ("delta, cast(bf16), byte_shuffle(2), zstd", spec, numbers, reference),
    }


def plain(arrays: Arrays, spec: Spec) -> dict[str, Any]:
    """Name -> shape and the elements' bytes as hex, and the dtype where it is not that of the spec."""
    dtypes = Spec.of(arrays)
    return {
        name: {"shape": list(a.shape), "hex": np.asarray(a, order="C").tobytes().hex()}
        | ({} if dtypes[name].dtype == spec[name].dtype else {"dtype": dtypes[name].dtype})
        for name, a in arrays.items()
    }


def arrays_of(found: dict[str, Any], spec: Spec) -> dict[str, Any]:
    """The inverse of `plain`."""
    return {
        name: np.frombuffer(bytes.fromhex(item["hex"]), DTYPES[item.get("dtype", spec[name].dtype)]).reshape(
            item["shape"]
        )
        for name, item in found.items()
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, (text, spec, arrays, reference) in cases().items():
        if (FOLDER / f"{name}.json").exists():
            continue
        chain = Chain.parse(text)
        payload = chain.encode(arrays, spec, reference=reference)
        decoded = chain.decode(payload, spec, reference=reference)
        vector = {
            "chain": chain.to_plain(),
            "spec": spec.to_plain(),
            "seed": 0,
            "arrays": plain(arrays, spec),
            "reference": None if reference is None else plain(reference, spec),
            "decoded": plain(decoded, spec),
        }
        (FOLDER / f"{name}.json").write_text(json.dumps(vector, indent=1) + "\n")
        (FOLDER / f"{name}.bin").write_bytes(payload)


if __name__ == "__main__":
    main()
