"""Figures of a run where others keep theirs: the same figures, each once, however often they are told."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from typer.testing import CliRunner

from tests.operator.stub import answering, coordinator, exchange, ledger_of, run_of
from thinwire.operator.cli.app import app
from thinwire.operator.tracking.figures import TrackingError, points_of, settings_of
from thinwire.operator.tracking.mlflow import Mlflow
from thinwire.operator.tracking.places import trackers
from thinwire.protocol.messages import ExchangeMetrics

EXCHANGES = [
    exchange(0, {"accuracy": 0.1, "loss": 2.3, "f1": 0.05, "examples": 90.0}),
    exchange(1, {"accuracy": 0.5, "loss": 1.5, "f1": 0.45, "examples": 90.0}),
    exchange(2, {"accuracy": 0.75, "loss": 0.5, "f1": 0.7, "examples": 90.0}),
]


def test_a_rounds_figures_are_those_of_the_model_it_made() -> None:
    going = points_of(run_of(), EXCHANGES)
    assert [point.round for point in going] == [0, 1, 2]
    assert going[0].figures == {"accuracy": 0.1, "loss": 2.3, "f1": 0.05}
    second = going[2].figures
    assert (second["accuracy"], second["f1"], second["answers"], second["seconds"]) == (0.75, 0.7, 8, 1234.5)
    assert (second["uplink_bytes"], second["downlink_bytes"]) == (123_456_789, 987_654_321)
    assert [point.seconds for point in going] == [0, 1234.5, 2469]
    over = points_of(run_of(state="finished", outcome="completed"), EXCHANGES)
    assert (len(over), "accuracy" in over[3].figures) == (4, False)


def test_settings_are_text_by_their_own_names() -> None:
    view = run_of(settings={"rounds": 9, "settings": {"lr": 0.1}})
    assert settings_of(view) == {"method": "fedavg", "parameters": "93322", "rounds": "9", "settings.lr": "0.1"}


@pytest.mark.parametrize("place", ["mlflow", "mlflow:file:///x", "tensorboard:", "elsewhere:x"])
def test_a_place_that_is_none_is_named(place: str) -> None:
    with pytest.raises(TrackingError, match="write mlflow:"):
        trackers([place])


# -- TensorBoard ----------------------------------------------------------------------------------------------


def _scalars(folder: Path) -> dict[tuple[str, int], float]:
    """All scalars in the event files of a folder: records of a length, its check, bytes, their check."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in folder.iterdir():
        data, at = file.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += 16 + size
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    assert (value.tag, event.step) not in found
                    found[value.tag, event.step] = value.simple_value
    return found


def test_tensorboard_finds_each_figure_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    (board,) = trackers([f"tensorboard:{tmp_path}"])
    board.tell(run_of(), EXCHANGES[:2])
    board.tell(run_of(), EXCHANGES)
    found = _scalars(tmp_path / "night-abcdefgh")
    assert (found["accuracy", 2], found["loss", 0], found["f1", 1]) == (0.75, pytest.approx(2.3), pytest.approx(0.45))
    assert found["total_bytes", 2] == pytest.approx(2 * 1_111_111_110, rel=1e-6)
    assert {step for tag, step in found if tag == "accuracy"} == {0, 1, 2}


def test_tensorboard_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(TrackingError, match=r"pip install 'thinwire\[tensorboard\]'"):
        trackers([f"tensorboard:{tmp_path}"])


# -- MLflow ---------------------------------------------------------------------------------------------------


class Server:
    """What a tracking server keeps, by the requests that its REST interface documents."""

    def __init__(self) -> None:
        self.experiments: list[str] = []
        self.runs: list[dict[str, Any]] = []
        self.asked_by: set[str] = set()

    def answer(self, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        what = path.removeprefix("/prefix/api/2.0/mlflow/")
        if what == "experiments/get-by-name":
            name = query["experiment_name"][0]
            if name not in self.experiments:
                return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}
            return 200, {"experiment": {"experiment_id": str(self.experiments.index(name))}}
        if what == "experiments/create":
            self.experiments.append(body["name"])
            return 200, {"experiment_id": str(len(self.experiments) - 1)}
        if what == "runs/search":
            return 200, {"runs": [self.told(run) for run in self.runs if f"'{run['thinwire.run']}'" in body["filter"]]}
        if what == "runs/create":
            tags = {tag["key"]: tag["value"] for tag in body["tags"]}
            self.runs.append({"run_id": f"r{len(self.runs)}", **tags, "metrics": [], "params": {}, "body": body})
            return 200, {"run": self.told(self.runs[-1])}
        run = next(one for one in self.runs if one["run_id"] == body["run_id"])
        if what == "runs/log-batch":
            run["metrics"] += body.get("metrics", [])
            run["params"] |= {one["key"]: one["value"] for one in body.get("params", [])}
        elif what == "runs/set-tag":
            run[body["key"]] = body["value"]
        elif what == "runs/update":
            run["status"] = body["status"]
        else:
            return 404, {}
        return 200, {}

    def told(self, run: dict[str, Any]) -> dict[str, Any]:
        tags = [{"key": key, "value": value} for key, value in run.items() if key.startswith("thinwire.")]
        return {"info": {"run_id": run["run_id"]}, "data": {"tags": tags}}


@contextmanager
def tracking() -> Iterator[tuple[Server, str]]:
    """The server and its address."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            parts = urlsplit(self.path)
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            server.asked_by.add(self.headers.get("authorization", ""))
            status, found = server.answer(parts.path, parse_qs(parts.query), body)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield server, f"http://127.0.0.1:{http.server_address[1]}/prefix/"
        http.shutdown()


def test_mlflow_gets_each_round_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking() as (server, url):
        who = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "pw", "MLFLOW_EXPERIMENT_NAME": "wards"}
        watching = Mlflow(url, who)
        watching.tell(run_of(), EXCHANGES[:2])
        watching.tell(run_of(), EXCHANGES)
        # Another process, later, tells the whole run.
        over = run_of(state="finished", outcome="completed", finished_at=1.7e9 + 9)
        Mlflow(url, who).tell(over, EXCHANGES)
        Mlflow(url, who).tell(over, EXCHANGES)
    (run,) = server.runs
    assert server.experiments == ["wards"]
    assert server.asked_by == {f"Basic {base64.b64encode(b'ann:pw').decode()}"}
    keys = [(one["key"], one["step"]) for one in run["metrics"]]
    assert len(keys) == len(set(keys))
    values = {(one["key"], one["step"]): one["value"] for one in run["metrics"]}
    assert (values["accuracy", 2], values["loss", 0], values["answers", 3]) == (0.75, 2.3, 8)
    assert (run["status"], run["params"]["method"], run["body"]["start_time"]) == ("FINISHED", "fedavg", 1.7e12)


def test_the_command_hands_figures_on_and_says_what_is_wrong() -> None:
    view = run_of(state="finished", outcome="completed", finished_at=1.7e9)
    exchanges: list[ExchangeMetrics] = EXCHANGES
    with answering(coordinator(view, exchanges, ledger_of("ward-1"))) as url, tracking() as (server, at):
        words = ["run", "show", "night", "--url", url, "--report-to"]
        done = CliRunner().invoke(app, [*words, f"mlflow:{at}"])
        assert done.exit_code == 0, done.output
        assert len({one["step"] for one in server.runs[0]["metrics"]}) == 4
        refused = CliRunner().invoke(app, [*words, f"mlflow:{at}nowhere"])
        assert refused.exit_code == 5
        wrong = CliRunner().invoke(app, [*words, "elsewhere:x"])
        assert wrong.exit_code == 2


@pytest.mark.long
def test_a_real_tracking_server_takes_them(free_port: int, tmp_path: Path) -> None:
    if shutil.which("mlflow") is None:
        pytest.skip("mlflow is not installed")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    line = ["mlflow", "server", "--port", str(free_port), "--backend-store-uri", store, "--workers", "1"]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{free_port}"
    try:
        while True:
            assert process.poll() is None
            try:
                if httpx.get(f"{url}/health", timeout=1).is_success:
                    break
            except httpx.TransportError:
                pass
        for _ in range(2):
            Mlflow(url, {}).tell(run_of(state="finished", outcome="completed", finished_at=1.7e9), EXCHANGES)
        body = {"experiment_ids": ["1"], "max_results": 10}
        (run,) = httpx.post(f"{url}/api/2.0/mlflow/runs/search", json=body).json()["runs"]
        latest = {one["key"]: one["value"] for one in run["data"]["metrics"]}
        assert (latest["accuracy"], run["info"]["status"]) == (0.75, "FINISHED")
    finally:
        process.terminate()
        process.wait(30)
