"""The log says what an operator asks later: who came, which runs there were, how rounds ended, who was shut out."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from tests.coordinator.served import Served
from tests.coordinator.test_runs import whole_run
from thinwire.coordinator.logs import log_from


def test_a_run_from_invite_to_revocation_is_in_the_log(serve: Callable[..., Served]) -> None:
    served = serve(log_format="json")
    reader = served.invite(role="reader")
    enrolled = httpx.post(f"{served.url}/v1/clients", json={"invite": reader, "name": "scrape"}).json()
    served.run(name="night", rounds=1, evaluate=False)
    asyncio.run(whole_run(served))
    bearer = {"authorization": f"Bearer {enrolled['token']}"}
    scraped = httpx.get(f"{served.url}/metrics", headers=bearer)
    assert 'thinwire_run_round{run="night"} 1.0' in scraped.text
    assert 'thinwire_answers_total{outcome="accepted",run="night"} 2.0' in scraped.text
    assert 'thinwire_exchange_seconds_count{run="night"} 1.0' in scraped.text
    httpx.delete(f"{served.url}/v1/clients/client-00", headers=served.operator).raise_for_status()
    served.stop()
    lines = [json.loads(line) for line in served.log.splitlines() if line != served.url]  # what `serve` announces
    assert all(list(line)[:3] == ["time", "level", "event"] for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["time"]) for line in lines)
    told = [line["event"] for line in lines]
    assert told == [
        "listening", "invite made", "enrolled", "run created", "invite made", "enrolled", "enrolled", "run running",
        "exchange closed", "run finished", "revoked",
    ]  # fmt: skip
    closed, finished, revoked = (line for line in lines if line["event"] in told[-3:])
    assert (closed["run"], closed["round"], closed["answers"], closed["asked"]) == ("night", 1, 2, 2)
    assert closed["accuracy"] == 0.5
    assert (finished["outcome"], "reason" in finished) == ("completed", False)
    assert revoked["client"] == "client-00"
    # No secret is in it.
    assert enrolled["token"] not in served.log
    assert reader not in served.log


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_defect_is_told_without_what_its_variables_hold(format_: str) -> None:
    """A traceback with its locals would write tokens into the log. In a process of its own: logging is global."""
    code = (
        "import structlog\n"
        f"from {log_from.__module__} import log_from\n"
        f"log_from('info', {format_!r})\n"
        "def f(token):\n    raise ValueError('broken')\n"
        "try:\n    f('s3' + 'cret')\nexcept ValueError:\n    structlog.get_logger().exception('defect', reason=None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ValueError: broken" in done.stdout
    assert "s3cret" not in done.stdout
    assert "None" not in done.stdout
