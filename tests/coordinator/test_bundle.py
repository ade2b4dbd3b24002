"""A bundle for a bug report holds what helps, and nothing that is nobody else's."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.coordinator.served import Served
from tests.coordinator.test_endpoints import enrolled
from thinwire.operator.bundle import Redaction
from thinwire.operator.cli.app import app
from thinwire.protocol.exit_codes import Exit


def test_names_are_replaced_whole_and_always_by_the_same() -> None:
    redact = Redaction("https://coordinator.example:8443", ["ward-12", "ward-1", "run"])
    said = "ward-1 waits; ward-12 and ward-1. `run`, running, my-ward-1, https://coordinator.example:8443/"
    assert (
        redact(said)
        == "client-2 waits; client-3 and client-2. `client-1`, running, my-ward-1, https://COORDINATOR:8443/"
    )
    assert Redaction("http://127.0.0.1", [])("ward-1") == "ward-1"


def test_what_is_in_it(standing: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THINWIRE_URL", "THINWIRE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    enrolled(standing, "the-patient-of-ward-3")
    run = standing.run(name="bundled")
    token = (standing.data_dir / "operator.token").read_text().strip()
    out = tmp_path / "bundle.tar.gz"
    words = ["--url", standing.url, "--token-file", str(standing.data_dir / "operator.token")]
    done = CliRunner().invoke(app, ["bundle", "--out", str(out), *words])
    assert done.exit_code == Exit.OK, done.output
    with tarfile.open(out) as tar:
        files = {
            one.name.removeprefix("thinwire-bundle/"): (tar.extractfile(one) or pytest.fail("no file")).read().decode()
            for one in tar
        }
    assert {"versions.json", "doctor.json", "clients.json", "problems.json", "metrics.txt"} < set(files)
    assert json.loads(files[f"runs/{run['id']}.json"])["run"]["name"] == "bundled"
    assert [one["check"] for one in json.loads(files["doctor.json"])][:2] == ["port", "coordinator"]
    everything = "\n".join(files.values())
    for secret in ("the-patient-of-ward-3", token, "127.0.0.1"):
        assert secret not in everything
    done = CliRunner().invoke(app, ["problems", "--format", "json", *words])
    assert done.exit_code == Exit.OK, done.output
    assert isinstance(json.loads(done.output)["problems"], list)
