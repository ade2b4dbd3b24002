"""`thinwire bill` shows the same sums, whatever the form."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.coordinator.served import Served
from tests.coordinator.test_runs import whole_run
from thinwire.machine.quantities import in_bytes
from thinwire.operator.cli.app import app
from thinwire.protocol.exit_codes import Exit


def test_the_bill_is_the_same_in_every_form(
    serve: Callable[..., Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("THINWIRE_TOKEN", raising=False)
    served = serve()
    served.run(name="paid", rounds=1)
    asyncio.run(whole_run(served))
    served.stop()  # the last bytes are stored
    served.start()
    where = ["--url", served.url, "--token-file", str(served.data_dir / "operator.token")]

    def told(*words: str) -> str:
        done = CliRunner().invoke(app, ["bill", *words, *where])
        assert done.exit_code == Exit.OK, done.output
        return done.output

    of_run = json.loads(told("--run", "paid", "--format", "json"))
    rows = list(csv.DictReader(told("--run", "paid", "--format", "csv").splitlines()))
    directions = ("uplink_payload", "uplink_framing", "downlink_payload", "downlink_framing")
    spent = of_run["wire_bytes"]
    assert spent > 0
    assert sum(int(row[f"{name}_bytes"]) for row in rows for name in directions) == spent
    assert {row["client"] for row in rows} >= {"client-00", "client-01"}
    text = told()
    assert "paid" in text
    assert in_bytes(of_run["runs"][0]["wire_bytes"]) in text
    # Of one run: with what its clients cost without one.
    alone = told("--run", "paid")
    assert in_bytes(spent) in alone
    assert "without a run" in alone
    done = CliRunner().invoke(app, ["bill", "--run", "nobody's", *where])
    assert (done.exit_code, "run-not-found" in done.output) == (Exit.REFUSED, True)
