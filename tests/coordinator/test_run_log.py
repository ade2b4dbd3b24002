"""`thinwire run log` reads page behind page, as far as it is asked to."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from typer.testing import CliRunner, Result

from tests.coordinator.served import Served
from thinwire.coordinator.serve.activity import LINES_OF_RUN
from thinwire.operator.cli.app import app


def _asked(served: Served, *words: str) -> Result:
    at = ["--data-dir", str(served.data_dir), "--url", served.url]
    found = CliRunner().invoke(app, ["run", "log", "long", *words, *at])
    assert found.exit_code == 0, found.output
    return found


def _lines(served: Served, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_asked(served, "--format", "json", *words).stdout)["lines"]
    return found


def test_all_lines_and_those_since_a_time(standing: Served) -> None:
    standing.run(name="long")
    for _ in range(LINES_OF_RUN // 2 + 5):
        for command in ("pause", "resume"):
            assert standing.post(f"/v1/runs/long/{command}", {}).status_code == 200
    newest, everything = _lines(standing), _lines(standing, "--all")
    assert len(everything) > len(newest) >= LINES_OF_RUN - 1
    assert everything[: len(newest)] == newest
    assert [line["at"] for line in everything] == sorted((line["at"] for line in everything), reverse=True)
    deeds = [line["said"] for line in everything]
    assert sum("paused long" in said for said in deeds) == sum("resumed long" in said for said in deeds) == 105
    # The oldest first for people, who are told that there is more, or not.
    short, whole = _asked(standing), _asked(standing, "--all")
    assert "there are lines from before these: --all, or --since" in short.stderr
    assert "from before" not in whole.stderr
    assert len(whole.stdout.splitlines()) == len(everything)
    assert "paused long" in whole.stdout.splitlines()[-2]
    second = int(everything[len(everything) // 3]["at"])
    since = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert _lines(standing, "--since", since) == [line for line in everything if line["at"] >= second]
    assert _lines(standing, "--since", "2020-01-01") == everything
    assert _lines(standing, "--since", "2999-01-01") == []
