"""Files that are whole or are not there: written aside, flushed, renamed; a torn one is recognised and never loaded.

Layout of a record: a magic line, the SHA-256 of all that follows, the header's length (4 bytes, little-endian), a
msgpack header, then the sections it names, nothing between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import msgpack

from thinwire.codecs import Array, Arrays, CodecError, Spec, container_pieces, unpack_arrays
from thinwire.machine.files import write_atomic

_MAGIC: Final = b"thinwire-record-1\n"
_START: Final = len(_MAGIC) + 32


class TornRecordError(Exception):
    """A file that is not a whole record. It is as good as not there."""


@dataclass(frozen=True, slots=True)
class Record:
    """`facts`: plain values; `blobs`: bytes by name; `bundles`: named arrays by name (read-only when loaded)."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    bundles: Mapping[str, Arrays] = field(default_factory=dict)


def write_record(path: Path, record: Record) -> None:
    """Replaces the file in one step; when this returns, it survives a power cut. Raises: `OSError`."""
    pieces: list[bytes | memoryview] = list(record.blobs.values())
    sizes = [len(blob) for blob in record.blobs.values()]
    specs = {}
    for name, arrays in record.bundles.items():
        spec = Spec.of(arrays)
        specs[name] = spec.to_plain()
        container = container_pieces(arrays, spec)
        sizes.append(sum(len(piece) for piece in container))
        pieces += container
    header = msgpack.packb([dict(record.facts), list(record.blobs), specs, sizes])
    body = [len(header).to_bytes(4, "little"), header, *pieces]
    digest = hashlib.sha256()
    for piece in body:
        digest.update(piece)
    write_atomic(path, [_MAGIC, digest.digest(), *body], fsync=True)


def read_record(path: Path) -> Record:
    """The record. Raises: `TornRecordError`, `FileNotFoundError`."""
    data = path.read_bytes()
    if not data.startswith(_MAGIC) or hashlib.sha256(memoryview(data)[_START:]).digest() != data[len(_MAGIC) : _START]:
        raise TornRecordError(f"{path} is torn, or not a record of this version")
    try:
        start = _START + 4
        length = int.from_bytes(data[_START:start], "little")
        facts, blob_names, specs, sizes = msgpack.unpackb(data[start : start + length])
        sections = []
        offset = start + length
        for size in sizes:
            sections.append(memoryview(data)[offset : offset + size])
            offset += size
        blobs = {name: bytes(section) for name, section in zip(blob_names, sections, strict=False)}
        bundles: dict[str, dict[str, Array]] = {
            name: unpack_arrays(cast(bytes, section), Spec.from_plain(spec))  # a view reads like bytes
            for (name, spec), section in zip(specs.items(), sections[len(blobs) :], strict=True)
        }
    except (ValueError, TypeError, CodecError, msgpack.UnpackException) as error:
        raise TornRecordError(f"{path}: {error}") from None
    return Record(facts, blobs, bundles)
