"""What training frees stays for the next batch, and goes back when the task is over."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from thinwire.edge_client.allocator import give_back_freed_memory, keep_freed_memory

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))

def batch():
    activations = [np.full(1 << 20, 1.0, np.float32) for _ in range(16)]

keep_freed_memory()
before = resident()
batch()
kept = resident()
give_back_freed_memory()
print(kept - before, resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="of glibc")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    kept, left = map(int, done.stdout.split())
    assert kept > 60 << 20
    assert left < 4 << 20
