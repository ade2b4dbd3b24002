"""Decoded contributions on disk, for reducers that read them again when an exchange closes."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from pathlib import Path
from typing import Final

import numpy as np

from thinwire.codecs import Array, Arrays

_SEGMENT_BYTES: Final = 1 << 28
_ALIGNED: Final = 64


class Spool:
    """`keep` gives arrays back that lie in files without a name: they vanish with their last reader, or the process.

    One file and one mapping for many contributions, so that a thousand of them do not use up the descriptors.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._segment: mmap.mmap | None = None
        self._descriptor = -1
        self._used = 0

    def keep(self, arrays: Arrays) -> dict[str, Array]:
        """The same arrays, read-only, in C order, on disk. Raises: `OSError`; what is kept already stays whole."""
        with self._lock:
            self._make_room(sum(array.nbytes + _ALIGNED for array in arrays.values()))
            assert self._segment is not None  # noqa: S101
            kept: dict[str, Array] = {}
            for name, array in arrays.items():
                # Written, not stored through the mapping: a full disk is then an error and not the end of the process.
                _write(self._descriptor, np.asarray(array, order="C").reshape(-1).view(np.uint8).data, self._used)
                flat = np.frombuffer(self._segment, array.dtype, array.size, self._used) if array.size else array
                kept[name] = flat.reshape(array.shape)
                self._used += -(-array.nbytes // _ALIGNED) * _ALIGNED
            return kept

    def _make_room(self, size: int) -> None:
        if self._segment is not None and self._used + size <= len(self._segment):
            return
        with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
            length = max(size, _SEGMENT_BYTES)
            os.ftruncate(file.fileno(), length)
            self._segment = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = os.dup(file.fileno())
        self._used = 0

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
