"""The comparison with peers: what its page says is what was measured, and processes are watched as they should be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.marked import END, begin, filled
from benchmarks.peers.page import COMMAND, rendered, write_page
from benchmarks.process_watch import anonymous_bytes, descendants

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "peers.json"
EXAMPLE = {
    "date": "2026-01-01", "python": "3.11.7", "cpus": 2, "versions": {"flower": "flwr 1.0"},
    "left_out": {"nvflare": "no such package"},
    "costs": [{
        "system": "flower", "clients": 4, "size": 1_600_000, "seconds": 9.6, "memory_bytes": 470_000_000,
        "client_cpu_s": 1.5, "server_cpu_s": 0.25, "wire_bytes": 3_200_000.0,
    }],
}  # fmt: skip


def test_the_page_shows_what_was_measured() -> None:
    shown = filled(ROOT / "docs" / "peers.md", COMMAND)
    if not RESULTS.exists():
        assert shown == "Not measured yet on a quiet machine."
        return
    assert shown == rendered(json.loads(RESULTS.read_text()))


def test_a_measurement_becomes_a_table(tmp_path: Path) -> None:
    page = tmp_path / "peers.md"
    page.write_text(f"before\n{begin(COMMAND)}\nold\n{END}\nafter\n")
    write_page(EXAMPLE, page)
    text = page.read_text()
    assert "| 4 x 1.60 MB | flower | 9.60 | 470 MB | 1.50 | 0.25 | 3.20 MB |" in text
    assert "Left out: nvflare: no such package" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    write_page(EXAMPLE, page)
    assert page.read_text() == text


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own counts are read from /proc")
def test_memory_that_a_process_has_touched_is_seen() -> None:
    code = "import sys; kept = b'x' * (50 << 20); print(len(kept), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 50 << 20 < anonymous_bytes(process.pid) < 100 << 20
        assert process.pid in descendants(os.getpid())
        process.communicate()
    assert anonymous_bytes(process.pid) == 0
