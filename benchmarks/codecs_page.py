"""The tables of measured codecs, and docs/codecs.md from the stored results."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from benchmarks.tables import Table

HEAD = """# Codecs, measured

Written by `python -m benchmarks.codecs`, which measures and prints everything below, from `benchmarks/codecs.json`
({machine}; one thread). How arrays become bytes is in [codecs/README.md](../codecs/README.md).

- *ratio*: size to empirical entropy: of a mask, with the probability of each level where levels are known; of
  quantised arrays, of the symbols of each array. Seeded sampling knows more than the counts, hence ratios below one.
- *error*: root mean square, relative to that of the array.
- *MB/s* of the input as it lies in memory, and *M/s*, million values a second: encoding / decoding.
- *B/value*: peak memory beside the input, the larger of encoding and decoding.
- `constriction` is the entropy coder of that name, given the exact probability of every bit; it has no build for ARM.

"""
COLUMNS = ("chain", "bits/value", "ratio", "error", "MB/s", "M/s", "B/value")


def tables(results: dict[str, Any]) -> list[Table]:
    """One of each input."""
    same = [(name, list(rows)) for name, rows in groupby(results["rows"], lambda row: row["input"])]
    return [
        Table(f"{name}: {rows[0]['values']:,} values", COLUMNS, [_cells(row) for row in rows]) for name, rows in same
    ]


def page(results: dict[str, Any]) -> str:
    """docs/codecs.md."""
    return HEAD.format(machine=results["machine"]) + "\n".join(table.markdown() for table in tables(results))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    both = ("encode_s", "decode_s")
    megabytes, values = (" / ".join(f"{row[key] / 1e6 / row[s]:.1f}" for s in both) for key in ("bytes", "values"))
    return (
        row["chain"],
        f"{row['bits_per_value']:.4f}",
        "" if row["ratio"] is None else f"{row['ratio']:.4f}",
        f"{row['error']:.2g}" if row["error"] else "0",
        megabytes,
        values,
        f"{max(row['encode_peak'], row['decode_peak']) / row['values']:.1f}",
    )
