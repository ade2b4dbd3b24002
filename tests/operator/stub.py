"""What an operator's commands are told where no coordinator is needed: fixed answers over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel

from thinwire.protocol.encoding import JSON, encode_message
from thinwire.protocol.messages import (
    Absence,
    Attendance,
    AttendanceList,
    ExchangeMetrics,
    Ledger,
    LedgerRow,
    LinkRow,
    RunList,
    RunMetrics,
    RunView,
)


@contextmanager
def answering(answers: Mapping[str, tuple[int, bytes]]) -> Iterator[str]:
    """The address of a server that answers GETs by path; 404 without a body elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def run_of(**given: Any) -> RunView:
    """A run in its third round."""
    usual: dict[str, Any] = {
        "id": "abcdefgh", "name": "night", "method": "fedavg", "state": "running", "round": 3, "step": 0, "rounds": 9,
        "exchange": 2, "answers": 4, "cohort": 8, "parameters": 93_322, "created_at": 1.7e9, "settings": {},
    }  # fmt: skip
    return RunView.model_validate(usual | given)


def exchange(index: int, metrics: Mapping[str, float]) -> ExchangeMetrics:
    """A closed exchange of training that has cost megabytes."""
    return ExchangeMetrics(
        exchange=index, round=index + 1, step=0, kind="train", answers=8, offers=1, metrics=dict(metrics),
        seconds=1234.5, uplink_bytes=123_456_789, downlink_bytes=987_654_321, uplink_payload_bytes=123_000_000,
        downlink_payload_bytes=987_000_000, uplink_bytes_before=index * 123_456_789,
        downlink_bytes_before=index * 987_654_321,
    )  # fmt: skip


def ledger_of(client: str) -> Ledger:
    """A row and a link of one client, with large figures."""
    row = LedgerRow(
        run="abcdefgh", client=client, exchange=0, round=1, step=0, kind="answer", requests=123_456,
        uplink_payload_bytes=12_345_678_901, uplink_framing_bytes=23_456_789, downlink_payload_bytes=34_567_890_123,
        downlink_framing_bytes=45_678_901, resumed_bytes=5_678_901_234, seconds=1.0,
    )  # fmt: skip
    link = LinkRow(
        client=client, sent_bytes=12_369_135_691, received_bytes=34_613_569_025, uplink_bytes=12_369_135_690,
        downlink_bytes=34_613_569_024,
    )  # fmt: skip
    return Ledger(rows=[row], links=[link])


def coordinator(run: RunView, exchanges: list[ExchangeMetrics], ledger: Ledger) -> dict[str, tuple[int, bytes]]:
    """What a coordinator with this one run answers."""

    def told(message: BaseModel) -> tuple[int, bytes]:
        return 200, encode_message(message, JSON)

    path = f"/v1/runs/{run.name}"
    why = run.reason or "declined: out of memory"
    attendance = Attendance(
        exchange=0, round=1, step=0, kind="train", counted=1, asked=2, absent=[Absence(client="ward-2", why=why)],
        said=f"1 of 2; ward-2 {why}",
    )  # fmt: skip
    return {
        "/v1/runs": told(RunList(runs=[run])),
        path: told(run),
        f"{path}/metrics": told(RunMetrics(exchanges=exchanges)),
        f"{path}/ledger?sums=client": told(ledger),
        f"{path}/attendance": told(AttendanceList(exchanges=[attendance])),
    }
