"""Troubles: by run and by what could not be done; what has been done is none."""

from __future__ import annotations

from thinwire.coordinator.records.troubles import Troubles
from thinwire.protocol.reasons import ProblemError


def test_a_trouble_lasts_until_it_is_over() -> None:
    troubles = Troubles()
    full, failed = ProblemError("storage-full", "no byte"), ProblemError("storage-failed", "x" * 5000)
    assert not troubles.note("run1", "answers", None)
    assert troubles.note("run1", "answers", full)
    assert not troubles.note("run1", "answers", ProblemError("storage-full", "no byte"))
    assert troubles.note("run1", "exchange", failed)
    assert troubles.of("run1") == ["storage-full: no byte", f"storage-failed: {'x' * 984}"]
    assert troubles.of("run2") == []
    assert troubles.note("run1", "answers", failed)
    assert troubles.note("run1", "exchange", None)
    assert not troubles.note("run1", "exchange", None)
    assert troubles.note("run1", "answers", None)
    assert troubles.of("run1") == []
