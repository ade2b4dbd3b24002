"""What deploy/ gives to Prometheus and Grafana names figures that there are, and Prometheus can read them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.coordinator.served import Served
from tests.coordinator.test_prometheus import GAUGES
from thinwire.coordinator.api.prometheus import exposition

FILES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name}, of Debian's package prometheus, is not on this machine")
    return found


def test_every_figure_that_is_asked_for_is_there() -> None:
    families = text_string_to_metric_families(exposition(GAUGES).decode())
    known = {sample.name: set(sample.labels) for one in families for sample in one.samples}
    asked = [json.dumps(json.loads((FILES / "dashboard.json").read_text())), (FILES / "alerts.yml").read_text()]
    for name, selector in re.findall(r"\b(thinwire_[a-z_]+)(\{[^}]*\})?", "\n".join(asked)):
        assert name in known, name
        assert set(re.findall(r"(\w+)=", selector)) <= known[name], (name, selector)
    titles = [panel["title"] for panel in json.loads(asked[0])["panels"]]
    assert len(set(titles)) == len(titles)


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    subprocess.run([_tool("promtool"), "check", "rules", str(FILES / "alerts.yml")], check=True, capture_output=True)
    shutil.copytree(FILES, tmp_path / "prometheus")
    (tmp_path / "prometheus" / "thinwire.token").write_text("x")
    check = [_tool("promtool"), "check", "config", str(tmp_path / "prometheus" / "prometheus.yml")]
    subprocess.run(check, check=True, capture_output=True)


@pytest.mark.long
def test_prometheus_scrapes_with_a_readers_token(serve: Callable[..., Served], free_port: int, tmp_path: Path) -> None:
    program, served = _tool("prometheus"), serve()
    enrolled = httpx.post(f"{served.url}/v1/clients", json={"invite": served.invite(role="reader"), "name": "p"})
    served.run(name="night")
    shutil.copytree(FILES, folder := tmp_path / "prometheus")
    (folder / "thinwire.token").write_text(enrolled.json()["token"])
    config = (folder / "prometheus.yml").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{served.port}")
    (folder / "prometheus.yml").write_text(config.replace("30s", "1s"))
    at = f"127.0.0.1:{free_port}"
    options = [f"--web.listen-address={at}", f"--config.file={folder / 'prometheus.yml'}"]
    process = subprocess.Popen(
        [program, *options, f"--storage.tsdb.path={tmp_path / 'tsdb'}"], stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 60
        found: list[object] = []
        while not found and time.monotonic() < until:
            try:
                asked = httpx.get(f"http://{at}/api/v1/query", params={"query": "thinwire_run_rounds"}, timeout=5)
                found = asked.json()["data"]["result"] if asked.status_code == 200 else []
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        assert [one["metric"]["run"] for one in found] == ["night"]  # type: ignore[index]
    finally:
        process.terminate()
        process.wait(30)
