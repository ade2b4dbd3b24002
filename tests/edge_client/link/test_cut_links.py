"""Laws of links that are cut again and again, on real sockets and a real coordinator, told by its ledger."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from torch import nn

from tests.coordinator.served import Served, free_port, model
from tests.cutting_proxy import CuttingProxy
from thinwire.edge_client.agent import Agent
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.enrolment import enrol
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.link.resumable import download, upload
from thinwire.edge_client.link.sockets import CountingBackend
from thinwire.edge_client.link.transfer import Patience, Transfer, UnreachableError
from thinwire.edge_client.memory.folder import Folder
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.protocol.identity import digest_of
from thinwire.protocol.messages import Enrolled, Enrolment, Registration, TaskMessage

LEAST_CUT = 1_000
HEADS = 700
"""More than the heads of a HEAD and of a PATCH, or of a GET's response, together."""


@dataclass
class Line:
    """A client's way to a coordinator; its clock is its own pauses."""

    served: Served
    run: str = ""
    token: str = ""
    task: str = ""
    digest: bytes = b""
    size: int = 0
    slept: list[float] = field(default_factory=list)

    def transfer(self, url: str, give_up_after_s: float | None = None) -> Transfer:
        made = Transfer(
            url,
            CountingBackend(),
            rng=Random(0),
            say=lambda _: None,
            patience=Patience(stalled_after_s=20, give_up_after_s=give_up_after_s),
            clock=lambda: sum(self.slept),
            sleep=self.slept.append,
        )
        made.use_token(self.token)
        return made

    def ledger(self, kind: str) -> tuple[int, int, int, int, int]:
        """Requests; payload bytes up and down; framing bytes up; resumed bytes."""
        rows = [row for row in self.served.get(f"/v1/runs/{self.run}/ledger").json()["rows"] if row["kind"] == kind]
        names = ("requests", "uplink_payload_bytes", "downlink_payload_bytes", "uplink_framing_bytes", "resumed_bytes")
        return tuple(sum(row[name] for row in rows) for name in names)  # type: ignore[return-value]

    def kept(self, upload_id: str) -> bytes:
        return (self.served.data_dir / "uploads" / upload_id).read_bytes()

    def tus(self, method: str, path: str, **headers: str) -> httpx.Response:
        """Without a proxy."""
        given = {"authorization": f"Bearer {self.token}", "tus-resumable": "1.0.0", **headers}
        return httpx.request(method, f"{self.served.url}/v1/uploads{path}", headers=given, timeout=30)

    def offset(self, upload_id: str) -> int:
        return int(self.tus("HEAD", f"/{upload_id}").headers["upload-offset"])

    def begin(self, payload: bytes) -> str:
        """An upload of this payload of which nothing has arrived."""
        named = {"task": self.task.encode(), "digest": digest_of(payload)}
        metadata = ",".join(f"{name} {base64.b64encode(value).decode()}" for name, value in named.items())
        headers = {"upload-length": str(len(payload)), "upload-metadata": metadata}
        return self.tus("POST", "", **headers).headers["location"].rpartition("/")[2]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """One coordinator, one client with an open task whose part and answer are large."""
    served = Served(tmp_path_factory.mktemp("coordinator"), free_port())
    served.start()
    try:
        found = Line(served, served.run(model(20_000), rounds=1, cohort=1, evaluate=False)["id"])
        transfer = found.transfer(served.url)
        _, enrolled, _ = transfer.call("POST", "/v1/clients", Enrolled, Enrolment(invite=served.invite(), name="thin"))
        assert enrolled is not None
        found.token = enrolled.token
        transfer.use_token(enrolled.token)
        _, task, _ = transfer.call("POST", "/v1/registrations?wait_s=20", TaskMessage, Registration(), patient_s=20)
        transfer.close()
        assert task is not None
        part = max(task.parts, key=lambda part: part.size or 0)
        assert part.digest is not None
        found.task, found.digest, found.size = task.task, part.digest, part.size or 0
        yield found
    finally:
        served.kill()
    assert "Traceback" not in served.log


@settings(max_examples=10)
@given(
    cut=st.integers(LEAST_CUT, 8_000) | st.integers(LEAST_CUT, 100_000),
    size=st.integers(1, 20_000),
    down=st.booleans(),
)
def test_an_upload_progresses_and_nothing_is_asked_for_twice(line: Line, cut: int, size: int, down: bool) -> None:
    payload = Random(size).randbytes(size)
    before = line.ledger("answer")
    with CuttingProxy(line.served.url, cut_up=cut, cut_down=LEAST_CUT if down else None) as proxy:
        transfer = line.transfer(proxy.url)
        found = upload(transfer, line.task, payload, known=None, remember=lambda _: None)
        transfer.close()
    assert line.kept(found) == payload
    after = line.ledger("answer")
    requests, up, _, framing, _ = (now - then for now, then in zip(after, before, strict=True))
    assert up == size
    # The first connection brings POST and PATCH; each later one HEAD and PATCH, and gets on by what they leave of it.
    assert proxy.connections <= 1 + -(-size // (cut - HEADS))
    assert requests <= 2 * proxy.connections
    assert framing <= HEADS * proxy.connections
    assert line.slept == []
    # The same payload again would be there already.
    assert line.tus("DELETE", f"/{found}").status_code == 204


@settings(max_examples=6)
@given(cut=st.integers(LEAST_CUT, 20_000), begun=st.integers(0, 270_000))
def test_a_download_progresses_from_where_it_stopped(
    line: Line, cut: int, begun: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("partial")
    direct = line.transfer(line.served.url)
    whole = download(direct, line.digest, line.size, folder)
    direct.close()
    left = min(line.size - begun, 15 * cut)
    assert left > 0
    begun = line.size - left
    (folder / line.digest.hex()).write_bytes(whole[:begun])
    before = line.ledger("payload")
    with CuttingProxy(line.served.url, cut_down=cut) as proxy:
        transfer = line.transfer(proxy.url)
        assert download(transfer, line.digest, line.size, folder) == whole
        transfer.close()
        assert proxy.downlink <= left + HEADS * proxy.connections
    assert proxy.connections <= 1 + -(-left // (cut - HEADS))
    requests, _, _, _, resumed = (now - then for now, then in zip(line.ledger("payload"), before, strict=True))
    assert requests == proxy.connections
    assert resumed >= (begun if begun else 0)
    assert line.slept == []


def test_both_go_on_after_both_sides_were_started_again(line: Line, tmp_path: Path) -> None:
    payload = Random(1).randbytes(60_000)
    remembered: list[str | None] = []
    before = line.ledger("answer")[1]
    with CuttingProxy(line.served.url, cut_up=4_000, cut_down=4_000) as proxy:
        for _ in range(2):
            proxy.most_connections = proxy.connections + 6
            transfer = line.transfer(proxy.url, give_up_after_s=30)
            known = remembered[-1] if remembered else None
            with pytest.raises(UnreachableError):
                upload(transfer, line.task, payload, known=known, remember=remembered.append)
            proxy.most_connections = proxy.connections + 6
            with pytest.raises(UnreachableError):
                download(transfer, line.digest, line.size, tmp_path)
            transfer.close()
            partial = (tmp_path / line.digest.hex()).stat().st_size
            assert remembered[-1] is not None
            stands = len(line.kept(remembered[-1]))
            assert 0 < partial < line.size
            assert 0 < stands < len(payload)
            line.served.kill()
            line.served.start()
        proxy.most_connections = None
        transfer = line.transfer(proxy.url)
        found = upload(transfer, line.task, payload, known=remembered[-1], remember=remembered.append)
        assert digest_of(download(transfer, line.digest, line.size, tmp_path)) == line.digest
        transfer.close()
    assert remembered == [found]
    assert line.kept(found) == payload
    # A killed coordinator's ledger lacks its last seconds; what it has, it has once.
    assert line.ledger("answer")[1] - before <= len(payload)
    line.slept.clear()


def _patch(line: Line, upload_id: str, offset: int, size: int) -> bytes:
    lines = (
        f"PATCH /v1/uploads/{upload_id} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {line.token}",
        "Tus-Resumable: 1.0.0", f"Upload-Offset: {offset}", "Content-Type: application/offset+octet-stream",
        f"Content-Length: {size}", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


def test_what_came_with_the_head_of_a_request_that_is_cut_at_once_is_kept(line: Line) -> None:
    payload = Random(2).randbytes(2_000)
    upload_id = line.begin(payload)
    at = 0
    while at < 600:
        with socket.create_connection(("127.0.0.1", line.served.port)) as raw:
            raw.sendall(_patch(line, upload_id, at, len(payload) - at) + payload[at : at + 40])
        at += 40
        # The request may be read after the question is; never is it lost.
        for _ in range(200):
            if line.offset(upload_id) == at:
                break
        assert line.offset(upload_id) == at


@pytest.mark.parametrize("seed", range(5))
def test_where_to_go_on_is_answered_when_what_had_arrived_is_kept(line: Line, seed: int) -> None:
    payload = Random(100 + seed).randbytes(300_000)
    upload_id = line.begin(payload)
    lines = (
        f"HEAD /v1/uploads/{upload_id} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {line.token}",
        "Tus-Resumable: 1.0.0", "Connection: close", "", "",
    )  # fmt: skip
    with (
        socket.create_connection(("127.0.0.1", line.served.port)) as raw,
        socket.create_connection(("127.0.0.1", line.served.port)) as asking,
    ):
        # More than the coordinator reads at once.
        raw.sendall(_patch(line, upload_id, 0, len(payload)) + payload[:290_000])
        asking.sendall("\r\n".join(lines).encode())
        answered = b""
        while piece := asking.recv(1 << 16):
            answered += piece
    assert b"upload-offset: 290000\r\n" in answered


class _Bias(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + self.bias


def test_a_run_over_a_link_that_is_always_cut_ends_in_the_same_model(tmp_path: Path) -> None:
    size = 3_000
    served = Served(tmp_path / "coordinator", free_port())
    served.data_dir.mkdir()
    served.start()
    line = Line(served)
    data = Data((torch.rand(8, size, generator=torch.Generator().manual_seed(1)), torch.zeros(8, size)))
    first = {"bias": torch.randn(size, generator=torch.Generator().manual_seed(2)).numpy()}
    models = []
    try:
        folder = Folder(tmp_path / "client")
        direct = line.transfer(served.url)
        line.token = enrol(direct, folder, served.invite(), "thin").token
        for name, cut in (("cut", LEAST_CUT), ("whole", None)):
            run = served.run(first, name=name, method="fedavg", rounds=2, cohort=1)["id"]
            with CuttingProxy(served.url, cut_up=cut, cut_down=cut) as proxy:
                transfer = line.transfer(proxy.url)
                learner = Learner(
                    LearningProblem(lambda: _Bias(size), lambda _: data, nn.MSELoss()), ClientInfo("thin")
                )
                Agent(transfer, folder, learner, say=lambda _: None).serve()
                transfer.close()
            assert (proxy.cuts > 20) == (cut is not None)
            assert served.get(f"/v1/runs/{run}").json()["outcome"] == "completed"
            models.append(load(served.get(f"/v1/runs/{run}/model").content))
        folder.close()
        direct.close()
    finally:
        served.kill()
    assert "Traceback" not in served.log
    assert save(models[0]) == save(models[1])


class _Hour(nn.MSELoss):
    """Training in whose first step an hour passes, and with it the coordinator and all connections."""

    def __init__(self, served: Served, clock: list[float]) -> None:
        super().__init__()
        self._served = served
        self._clock = clock

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if not self._clock[0]:
            self._clock[0] = 3600.0
            self._served.kill()
            self._served.start()
        return super().forward(outputs, targets)


def test_an_hour_of_training_loses_nothing_and_needs_no_connection(line: Line, tmp_path: Path) -> None:
    served, clock, said = line.served, [0.0], list[str]()
    first = {"bias": torch.randn(100, generator=torch.Generator().manual_seed(2)).numpy()}
    policy = {"rounds": 1, "cohort": 1, "evaluate": False}
    run = served.run(first, name="hour", group="patient", method="fedavg", **policy)["id"]
    folder = Folder(tmp_path / "client")
    transfer = line.transfer(served.url)
    enrol(transfer, folder, served.invite(group="patient"), "patient")
    task = LearningProblem(
        lambda: _Bias(100), lambda _: Data((torch.rand(8, 100), torch.zeros(8, 100))), _Hour(served, clock)
    )
    Agent(transfer, folder, Learner(task, ClientInfo("patient")), say=said.append, now_s=lambda: clock[0]).serve()
    transfer.close()
    folder.close()
    (exchange,) = served.get(f"/v1/runs/{run}/metrics").json()["exchanges"]
    assert (exchange["answers"], exchange["offers"]) == (1, 1)
    assert exchange["metrics"]["seconds"] == 3600
    assert not [text for text in said if "late" in text or "again" in text]
