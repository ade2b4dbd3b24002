"""The report of a run: a page, a picture, the figures, the model."""

from __future__ import annotations

import base64
import io
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from thinwire.machine.quantities import in_bytes
from thinwire.methods.registry import find_method
from thinwire.methods.rounds import Round, bytes_to_accuracy, evaluation_of, payload_bits
from thinwire.operator.console import in_bits, in_figure, in_percent
from thinwire.operator.fleet import Fleet
from thinwire.operator.learning import learning_warnings
from thinwire.operator.result import Result
from thinwire.operator.tables import (
    LEDGER_COLUMNS,
    by_client_and_kind,
    final_measures,
    ledger_cells,
    measures,
    round_cells,
    round_columns,
    total,
)
from thinwire.protocol.bytes import Bytes

from .page import filled

PLOT = "accuracy-vs-bytes.png"
GLOBAL = "global model"
"""What is measured, where a method has one."""


def summary(result: Result, fleet: Fleet) -> dict[str, Any]:
    """The figures of the whole run. Bytes are those of its rounds; the evaluation after the last one is apart. Bits per
    parameter: of payload, in each direction, for one answer. `model_bytes`: of the final model as a file.
    """
    rounds = result.rounds
    cost = Bytes.sum(one.cost for one in rounds)
    bits_up, bits_down = payload_bits(rounds, result.view.parameters)
    evaluation = evaluation_of(result.exchanges)
    # The ledger and the kernels count everything the clients ever said: enrolment and evaluation too.
    kernel = sum(sent + received for sent, received in result.kernel.values())
    theirs = total(row for row in result.ledger.rows if row.client)
    return {
        "thinwire": version("thinwire"),
        "method": result.view.method,
        "task": fleet.task,
        "architecture": fleet.architecture,
        "limit": fleet.limit,
        "split": fleet.split,
        "seed": fleet.seed,
        "clients": fleet.clients,
        "link": fleet.link,
        "rounds": rounds[-1].round,
        "parameters": result.view.parameters,
        "accuracy": rounds[-1].accuracy,
        "loss": rounds[-1].loss,
        "measured": GLOBAL if find_method(result.view.method).shared_model else "clients' own models",
        "personal_accuracy": rounds[-1].personal_accuracy,
        "not_finite_rounds": [one.round for one in rounds if one.lost],
        "learning": learning_warnings(result.exchanges),
        "uplink_bytes": cost.uplink,
        "downlink_bytes": cost.downlink,
        "framing_bytes": cost.framing,
        "evaluation_bytes": 0 if evaluation is None else evaluation.uplink_bytes + evaluation.downlink_bytes,
        "bits_per_parameter_up": bits_up,
        "bits_per_parameter_down": bits_down,
        "model_bytes": None if result.model is None else result.model.stat().st_size,
        "ledger_bytes": None if result.played else total(result.ledger.rows).wire,
        "kernel_bytes": None if result.played else kernel,
        "unaccounted_bytes": None if result.played else kernel - theirs.wire,
        "seconds": result.seconds,
    }


def write_report(result: Result, facts: dict[str, Any], folder: Path) -> None:
    """`report.html`, `accuracy-vs-bytes.png`, `rounds.json`, `model.safetensors`. Raises: `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{facts['method']}, {facts['clients']} clients, {facts['task']}, {facts['split']}"
    picture = plot(result.rounds, title, result.score or "accuracy")
    (folder / PLOT).write_bytes(picture)
    (folder / "rounds.json").write_text(json.dumps(_figures(result, facts), indent=2) + "\n")
    (folder / "report.html").write_text(_page(result, facts, picture))
    if result.model is not None:
        shutil.copyfile(result.model, folder / "model.safetensors")


def plot(rounds: list[Round], title: str, score: str = "accuracy") -> bytes:
    """A PNG: accuracy, or another score, of each round's model at the wire bytes that it had cost, log scale."""
    import matplotlib
    from matplotlib.figure import Figure

    measured = [(one.total_bytes, one.accuracy) for one in rounds if one.accuracy is not None and one.total_bytes]
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7, 4.2), dpi=140, layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*measured, strict=True) if measured else ([], []), marker="o", markersize=4, color="#0b6e99")
        axes.set_xscale("log")
        axes.set_xlabel("wire bytes, all clients, up and down (log scale)")
        axes.set_ylabel(f"test {score}")
        axes.set_title(title, loc="left", fontsize=11)
        axes.xaxis.set_major_formatter(lambda value, _: in_bytes(value))
        axes.xaxis.set_minor_formatter(lambda value, _: in_bytes(value) if f"{value:.0e}"[0] in "25" else "")
        axes.grid(visible=True, which="both", alpha=0.25)
        reached = bytes_to_accuracy(rounds)
        if reached is not None and reached[1]:
            accuracy, cost = reached
            axes.axvline(cost, color="#c2410c", linewidth=1, linestyle="--")
            note = f"{accuracy:.3f} for {in_bytes(cost)}"
            axes.annotate(
                note, (cost, measured[0][1]), (-6, 0), textcoords="offset points", ha="right", color="#c2410c"
            )
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": "thinwire"})
    return out.getvalue()


def _figures(result: Result, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": facts,
        "run": result.view.model_dump(mode="json"),
        "rounds": [one.plain() for one in result.rounds],
        "exchanges": [exchange.model_dump(mode="json") for exchange in result.exchanges],
        "ledger": result.ledger.model_dump(mode="json"),
        "kernel": {name: {"sent": sent, "received": received} for name, (sent, received) in result.kernel.items()},
    }


def _page(result: Result, facts: dict[str, Any], picture: bytes) -> str:
    ledger = [(*key, *ledger_cells(of)) for key, of in by_client_and_kind(result.ledger.rows).items()]
    wire = facts["uplink_bytes"] + facts["downlink_bytes"]
    links = []
    for name, (sent, received) in sorted(result.kernel.items()):
        counted = total(row for row in result.ledger.rows if row.client == name)
        links.append((name, sent, counted.uplink, sent - counted.uplink, received, counted.downlink,
                      received - counted.downlink))  # fmt: skip
    return filled(
        "report.html",
        facts=facts,
        headline={
            result.score or "accuracy": in_figure(facts["accuracy"]),
            "on the wire": in_bytes(wire),
            "up": in_bytes(facts["uplink_bytes"]),
            "down": in_bytes(facts["downlink_bytes"]),
            "framing": in_percent(facts["framing_bytes"], wire),
            "bits per parameter, up/down": in_bits(facts["bits_per_parameter_up"], facts["bits_per_parameter_down"]),
            "seconds": f"{facts['seconds']:.0f}",
        },
        picture=base64.b64encode(picture).decode(),
        columns=round_columns(result.score),
        rounds=[round_cells(one, result.view.parameters) for one in result.rounds],
        measures=measures(result.exchanges),
        final=final_measures(result.exchanges),
        ledger_columns=LEDGER_COLUMNS,
        ledger=ledger,
        all=ledger_cells(total(result.ledger.rows)),
        links=links,
        settings=result.view.settings,
    )
