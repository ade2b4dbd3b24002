"""Dual-side low rank beside federated averaging under the same trailing codecs: `python -m benchmarks.feddlr`.

Z. Qiao et al., arXiv 2104.12416. ConvNet (93,322 parameters) on Fashion-MNIST, 12,000 training and 4,000 test examples,
10 of 10 IID clients, one epoch per round. Also the compact model: how much faster two thin layers are than a wide one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from benchmarks.cells import Cell, file_of
from benchmarks.compact import Speed, speed_table, speeds
from benchmarks.experiment import Experiment, Groups, Picture
from benchmarks.outcomes import Mean, difference, not_worse, sized
from benchmarks.store import Store
from benchmarks.tables import Table, Verdict, verdict_table
from thinwire.operator.fleet import Fleet

PLAIN, TRAILING, EIGHT = "fedavg plain", "fedavg, f16 + zstd both ways", "fedavg, 8 bits both ways"
FACTORS = "quantise(8), entropy"
LOCAL = {"epochs": 1, "batch-size": 32, "lr": 0.02}


def cells(given: argparse.Namespace) -> list[Cell]:
    """Those of three seeds first."""
    rounds = 8 if given.quick else 20
    file = file_of(given.data_folder, "fashion_mnist.npz")

    def fedavg(**run: Any) -> dict[str, Any]:
        return {"method": "fedavg", "rounds": rounds, "settings": LOCAL} | run

    def feddlr(**settings: Any) -> dict[str, Any]:
        named = {name.replace("_", "-"): value for name, value in settings.items()}
        return {"method": "feddlr", "rounds": rounds, "settings": LOCAL | named}

    trailing = "cast(f16), byte_shuffle(2), zstd"
    main = {
        PLAIN: fedavg(chains="plain"),
        TRAILING: fedavg(uplink=trailing, downlink=trailing),
        EIGHT: fedavg(uplink=FACTORS, downlink=f"delta, {FACTORS}"),
        "update .90": feddlr(),
        "update .90, 8-bit factors": feddlr(factors=FACTORS),
        "update .90, 8-bit factors, error feedback": feddlr(factors=FACTORS, error_feedback=True),
        "update .80, 8-bit factors": feddlr(energy_up=0.8, energy_down=0.8, factors=FACTORS),
        "weights .90": feddlr(object="weights"),
    }
    more = {
        "update .82": feddlr(energy_up=0.82, energy_down=0.82),
        "update .70": feddlr(energy_up=0.7, energy_down=0.7),
        "update .70, 8-bit factors": feddlr(energy_up=0.7, energy_down=0.7, factors=FACTORS),
        "update .50, 8-bit factors": feddlr(energy_up=0.5, energy_down=0.5, factors=FACTORS),
        "update .90, spatial": feddlr(unfolding="spatial"),
        "update .90, up only": feddlr(sides="up"),
        "weights .98": feddlr(object="weights", energy_up=0.98, energy_down=0.98),
        "weights .90 up, .98 down": feddlr(object="weights", energy_down=0.98),
        "weights .90, nuclear norm 3e-4": feddlr(object="weights", nuclear_norm=3e-4),
    }
    found = []
    for seed in range(given.seeds):
        fleet = Fleet(10, "fashion_mnist", "iid", seed, None, file, "cifar_convnet", "12000/4000")
        chosen = main if seed or given.quick else main | more
        found += [Cell(name, fleet, run) for name, run in chosen.items()]
    return found


def share(groups: Groups, which: str, against: str) -> float:
    """Wire bytes both ways, as a share."""
    return Mean.of([one.wire for one in groups[which]]).value / Mean.of([one.wire for one in groups[against]]).value


def verdicts(groups: Groups, measured: Sequence[Speed]) -> list[Verdict]:
    """The aims of this reproduction."""
    found = []
    pairs = (
        ("update .90", TRAILING),
        ("update .90, 8-bit factors", EIGHT),
        ("update .90, 8-bit factors, error feedback", EIGHT),
        ("update .80, 8-bit factors", EIGHT),
    )
    for name, same in pairs:
        if not {name, same, PLAIN} <= groups.keys():
            continue
        plain, trailing = share(groups, name, PLAIN), share(groups, name, same)
        found.append(Verdict(f"{name}: bytes of plain fedavg", "<= 25 %", f"{100 * plain:.1f} %", plain <= 0.25))
        found.append(Verdict(f"{name}: bytes of {same}", "<= 50 %", f"{100 * trailing:.1f} %", trailing <= 0.5))
        gap = difference(groups[name], groups[PLAIN])
        found.append(Verdict(f"{name}: accuracy against plain", "not worse", f"{gap.value:+.4f}", not_worse(gap)))
    for share_, least in ((0.5, 1.3), (0.3, 1.5)):
        speedups = [one.speedup for one in measured if abs(one.parameters - share_) < 0.05]
        if speedups:
            claim = f"compact model with {100 * share_:.0f} % of the parameters: inference"
            text = f"{min(speedups):.2f}x to {max(speedups):.2f}x"
            found.append(Verdict(claim, f">= {least}x", text, min(speedups) >= least))
    return found


def tables(store: Store) -> list[Table]:
    """Accuracies and bytes, the compact models, then the aims."""
    groups = store.groups()
    rows = []
    for name, found in groups.items():
        part = f"{100 * share(groups, name, PLAIN):.1f} %" if PLAIN in groups else ""
        rows.append((name, str(len(found)), str(Mean.of([one.accuracy for one in found])), *sized(found), part))
    measured = [Speed(**one) for one in store.facts("compact") or []]
    return [
        Table("low rank", ("setting", "seeds", "accuracy", "up", "down", "of plain fedavg"), rows),
        speed_table(measured),
        verdict_table(verdicts(groups, measured)),
    ]


def pictures(groups: Groups) -> list[Picture]:
    """All settings."""
    return [Picture("", "Fashion-MNIST, IID, ConvNet: low rank", groups)]


def measure_facts(store: Store, given: argparse.Namespace) -> None:
    """The speeds of compact models."""
    if store.facts("compact") is None:
        store.put_facts("compact", [one.plain() for one in speeds(quick=given.quick)])


REMARKS = """What the figures say. Factors of 8 bits keep both ways at a third of what fedavg sends in the same 8
bits, a sixteenth of raw float32. Without error feedback accuracy is two points lower after the same
twenty rounds: what truncation leaves out of an update is lost. With it the run ends within a point of raw fedavg, for
a twelfth of its bytes and half of what fedavg sends in the same bits. Truncating whole weights instead of updates ends
five points lower for the same bytes; at .98 of their energy it loses nothing, and saves little. The nuclear norm buys
nothing here, and neither unfolding is better. Compact models keep the outputs and are faster by more than was asked
for."""

EXPERIMENT = Experiment("feddlr", __doc__ or "", cells, tables, pictures, measure_facts, REMARKS)


if __name__ == "__main__":
    EXPERIMENT.main()
