"""What is freed stays for the next use or goes back to the system, as it was asked for."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="of glibc")

_PROGRAM = """
import ctypes
from thinwire.machine import memory

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))

def use(mib):
    blocks = [bytearray(b"x") * (mib << 20) for _ in range(48 // mib)]
    taken = resident()
    blocks.clear()
    return taken

ASKED
before = resident()
taken = use(MIB)
left = resident()
memory.give_back_freed_memory()
print(taken - before, left - before, resident() - before)
"""


def _measured(asked: str, mib: int) -> tuple[int, int, int]:
    """Bytes beyond the start: in use, freed, given back."""
    program = _PROGRAM.replace("ASKED", asked).replace("MIB", str(mib))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    taken, left, last = map(int, done.stdout.split())
    return taken, left, last


def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    taken, left, last = _measured("memory.keep_freed_memory()", 3)
    assert taken > 44 << 20
    assert left > 40 << 20
    assert last < 6 << 20


def test_large_blocks_go_back_by_themselves() -> None:
    # glibc would have raised its threshold after the first of them, and kept the next ones.
    warm = "memory.give_back_large_memory(); use(24)"
    taken, left, _ = _measured(warm, 3)
    assert taken > 44 << 20
    assert left < 6 << 20
