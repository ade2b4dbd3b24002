"""A dozen kills of real processes within one run; `make chaos` has hundreds."""

from __future__ import annotations

from pathlib import Path

from .harness import Chaos

KILLS = 12


def test_a_dozen_kills_change_nothing(tmp_path: Path) -> None:
    """feddkd: exchanges of two kinds, the same cohort for some, residuals and teachers in the clients' memories."""
    with Chaos(tmp_path, "feddkd", seed=1, span_s=0.3) as chaos:
        verdict = chaos.run(rounds=5, kills=KILLS)
    assert verdict.clean, verdict
    assert sum(chaos.kills.values()) == KILLS
    assert verdict.answers == verdict.acknowledged == 2 * (5 * 3 + 1)
