"""What a client says and remembers, step by step, against a peer that follows a script."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import thinwire.methods as methods
from tests.edge_client.conftest import MakeTransfer
from tests.edge_client.cutting_server import HANGS_UP, CuttingServer
from thinwire.codecs import Arrays, Chain, CodecError, Spec
from thinwire.edge_client.agent import Agent
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.enrolment import enrol
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.memory.folder import Credentials, Folder
from thinwire.edge_client.performer import Limits, TaskTooLongError
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.encoding import MSGPACK, decode_message, encode_message, spec_digest
from thinwire.protocol.identity import digest_of
from thinwire.protocol.messages import (
    AnswerMessage,
    ChainsMessage,
    DeclineMessage,
    Enrolled,
    PartMessage,
    Plan,
    Registration,
    TaskMessage,
    VerdictMessage,
)
from thinwire.protocol.reasons import REASONS, ProblemError

PACKED = {"Content-Type": MSGPACK}
SIZE = 30_000


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more folder of methods: the registry is a listing."""
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(Path(__file__).with_name("toy_methods"))])
    importlib.import_module("thinwire.methods.toy_steps.client").Client.performed = 0


def _performed() -> int:
    performed: int = importlib.import_module("thinwire.methods.toy_steps.client").Client.performed
    return performed


class _Bias(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + self.bias


def _learner(size: int = 4) -> Learner:
    data = Data((torch.rand(6, size), torch.zeros(6, size)))
    return Learner(LearningProblem(lambda: _Bias(size), lambda _: data, nn.MSELoss()), ClientInfo("client-00"))


class _Script:
    """Builds what the peer says."""

    def __init__(self, server: CuttingServer, size: int = 4, **plan: Any) -> None:
        self.server = server
        self.size = size
        self.spec = Spec.of({"bias": np.zeros(size, np.float32)})
        values: dict[str, Any] = {
            "run": "run001",
            "method": "toy_steps",
            "settings": {"step": 0.5},
            "kind": "train",
            "seed": 3,
            "rounds": 9,
            "parts": {"model": self.spec.to_plain()},
            "reply": self.spec.to_plain(),
            "chains": ChainsMessage(down=[{"name": "delta"}], up=[], full=[], private=[]),
            "max_examples": 5,
            "model": spec_digest(self.spec),
        }
        self.plan = encode_message(Plan(**{**values, **plan}))

    def says(self, status: int = 200, message: Any = None, **headers: str) -> None:
        body = b"" if message is None else encode_message(message)
        self.server.answers.append((status, {**(PACKED if body else {}), **headers}, body))

    def says_plan(self) -> None:
        self.server.answers.append((200, PACKED, self.plan))

    def says_problem(self, reason: str, **more: object) -> None:
        body = json.dumps({"reason": reason, "detail": "by the script", "retry": REASONS[reason].retry, **more})
        self.server.answers.append((REASONS[reason].status, {"Content-Type": "application/json"}, body.encode()))

    def task(self, exchange: int = 0, *parts: PartMessage, task: str | None = None) -> TaskMessage:
        return TaskMessage(
            task=task or f"task{exchange:03}",
            run="run001",
            plan=digest_of(self.plan),
            exchange=exchange,
            round=exchange + 1,
            step=0,
            parts=list(parts) or [self.whole(float(exchange))],
        )

    def arrays(self, value: float) -> Arrays:
        return {"bias": np.full(self.size, value, np.float32)}

    def whole(self, value: float) -> PartMessage:
        return PartMessage(inline=Chain().encode(self.arrays(value), self.spec))

    def by_digest(self, value: float) -> PartMessage:
        payload = Chain().encode(self.arrays(value), self.spec)
        digest = digest_of(payload)
        self.server.payloads[digest.hex()] = payload
        return PartMessage(digest=digest, size=len(payload))

    def delta(self, value: float, base: float) -> PartMessage:
        payload = Chain.parse("delta").encode(self.arrays(value), self.spec, reference=self.arrays(base))
        return PartMessage(form="delta", inline=payload)


class _Client:
    """A client whose processes may end and begin again."""

    def __init__(self, path: Path, server: CuttingServer, make_transfer: MakeTransfer) -> None:
        self.path, self.server, self.make_transfer = path, server, make_transfer
        self.said: list[str] = []

    def process(
        self,
        size: int = 4,
        limits: Limits | None = None,
        until: type[Exception] | None = None,
        *,
        own_first: bool = True,
    ) -> None:
        """Works until the script ends with run-finished, or with this error."""
        folder = Folder(self.path)
        transfer = self.make_transfer(self.server.address)
        try:
            agent = Agent(transfer, folder, _learner(size), say=self.said.append, limits=limits, own_first=own_first)
            if until is None:
                agent.serve()
            else:
                with pytest.raises(until):
                    agent.serve()
        finally:
            folder.close()
            transfer.close()

    def counted(self) -> list[int]:
        folder = Folder(self.path)
        try:
            return list(folder.run("run001").memory().get("counted", np.zeros(2)))
        finally:
            folder.close()

    def answers(self) -> list[AnswerMessage]:
        return [decode_message(AnswerMessage, body) for body in self._bodies("/answer")]

    def declined(self) -> list[str]:
        return [decode_message(DeclineMessage, body).detail for body in self._bodies("/decline")]

    def registrations(self) -> list[Registration]:
        return [decode_message(Registration, body) for body in self._bodies("/registrations")]

    def _bodies(self, where: str) -> list[bytes]:
        """Of the requests to such a path that the script answered."""
        pairs = zip(self.server.requests, self.server.bodies, strict=True)
        return [body for (_, path, _), body in pairs if where in path and body]


@pytest.fixture
def client(tmp_path: Path, server: CuttingServer, make_transfer: MakeTransfer) -> _Client:
    return _Client(tmp_path / "client", server, make_transfer)


def _answered(answer: AnswerMessage, script: _Script) -> float:
    assert answer.payload is not None
    return float(Chain().decode(answer.payload, script.spec)["bias"][0])


def test_a_task_is_fetched_performed_and_answered(client: _Client, server: CuttingServer) -> None:
    script = _Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    assert [path for _, path, _ in server.requests] == [
        "/v1/registrations?wait_s=600",
        f"/v1/plans/{digest_of(script.plan).hex()}",
        "/v1/tasks/task000/answer",
        "/v1/registrations?wait_s=600",
    ]
    answer = client.answers()[0]
    assert _answered(answer, script) == 0.5
    assert answer.examples == 5, "capped by the plan"
    assert set(answer.metrics) == {"loss", "seconds"}, "what is not finite is left out"
    assert answer.link is not None
    assert client.counted() == [1, 0]
    first, second = client.registrations()
    assert first.holds is None
    assert first.spec == spec_digest(script.spec)
    assert second.holds == {"run001": 0}


def test_the_next_task_of_a_verdict_is_performed_at_once(client: _Client, server: CuttingServer) -> None:
    script = _Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(message=VerdictMessage(verdict="accepted", next=script.task(1, script.delta(7.0, base=0.0))))
    script.says(message=VerdictMessage(verdict="accepted", next=script.task(2, PartMessage(form="held"))))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    assert [_answered(answer, script) for answer in client.answers()] == [0.5, 7.5, 7.5]
    assert len(client.registrations()) == 2


@pytest.mark.parametrize(
    ("verdict", "counted"), [("accepted", [1, 0]), ("duplicate", [1, 0]), ("late", [0, 1]), ("refused", [0, 1])]
)
def test_the_verdict_decides_what_is_remembered(
    verdict: Any, counted: list[int], client: _Client, server: CuttingServer
) -> None:
    script = _Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(message=VerdictMessage(verdict=verdict))
    script.says_problem("run-finished")
    client.process()
    assert client.counted() == counted


def test_a_client_too_late_for_a_payload_goes_on_with_the_next_task(client: _Client, server: CuttingServer) -> None:
    """The exchange was closed while it fetched, and what was broadcast is no longer kept."""
    script = _Script(server)
    gone = script.by_digest(7.0)
    server.payloads.clear()
    script.says(message=script.task(0, gone))
    script.says_plan()
    script.says_problem("payload-not-found")
    script.says(message=script.task(1))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    assert client.counted() == [1, 0]


def test_a_task_that_lacks_its_payload_again_and_again_is_no_task(client: _Client, server: CuttingServer) -> None:
    script = _Script(server)
    gone = script.by_digest(7.0)
    server.payloads.clear()
    for turn in range(5):
        script.says(message=script.task(0, gone))
        if turn == 0:
            script.says_plan()
        script.says_problem("payload-not-found")
    with pytest.raises(ProblemError, match="payload-not-found"):
        client.process()


@pytest.mark.parametrize("reason", ["answer-invalid", "payload-invalid", "task-not-found"])
def test_a_refusal_promotes_the_other_memory_and_the_client_goes_on(
    reason: str, client: _Client, server: CuttingServer
) -> None:
    script = _Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says_problem(reason)
    script.says(message=script.task(1))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    assert client.counted() == [1, 1]


def test_an_answer_staged_before_the_end_is_offered_again_and_not_trained_again(
    client: _Client, server: CuttingServer
) -> None:
    script = _Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says_problem("token-invalid")
    client.process(until=ProblemError)
    assert client.counted() == [0, 0], "no verdict, no promotion"
    script.says(message=VerdictMessage(verdict="duplicate"))
    script.says_problem("run-finished")
    client.process()
    first, second = client.answers()
    assert (first.payload, first.metrics, first.examples) == (second.payload, second.metrics, second.examples)
    assert _performed() == 1
    assert client.counted() == [1, 0]


def test_the_same_task_offered_again_gets_the_same_answer(client: _Client, server: CuttingServer) -> None:
    script = _Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says(message=script.task(0))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    first, second = client.answers()
    assert first.payload == second.payload
    assert _performed() == 1
    assert client.counted() == [1, 0], "counted once"


def test_what_is_being_checked_is_asked_for_again_with_the_same_words(
    client: _Client, server: CuttingServer, slept: list[float]
) -> None:
    script = _Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(202, **{"Retry-After": "3"})
    script.says(202, **{"Retry-After": "3"})
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    first, second, third = client.answers()
    assert first == second == third
    assert slept == [3.0, 3.0]


@pytest.mark.parametrize(("value", "own_first", "travels"), [(0.0, True, False), (0.0, False, True), (2.0, True, True)])
def test_a_first_model_that_is_this_clients_own_need_not_travel(
    value: float, own_first: bool, travels: bool, client: _Client, server: CuttingServer
) -> None:
    script = _Script(server)
    script.says(message=script.task(0, script.by_digest(value)))
    script.says_plan()
    if travels:
        (payload,) = server.payloads.values()
        server.answers.append((200, {}, payload))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process(own_first=own_first)
    assert any("/payloads/" in path for _, path, _ in server.requests) == travels
    assert _answered(client.answers()[0], script) == value + 0.5


def test_a_large_part_and_a_large_answer_travel_by_digest_and_upload(client: _Client, server: CuttingServer) -> None:
    script = _Script(server, SIZE)
    script.says(message=script.task(0, script.by_digest(2.0)))
    script.says_plan()
    server.cut_after = 50_000
    # What follows the script's two lines is served as it is asked for.
    client.process(SIZE, until=ProblemError)
    upload = next(iter(server.uploads.values()))
    assert Chain().decode(bytes(upload), script.spec)["bias"][0] == 2.5
    assert server.body_bytes_received == len(upload)
    # The process has ended before its answer message was heard; the next one sends no byte of the upload again.
    before = server.body_bytes_received
    server.cut_after = None
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process(SIZE)
    assert server.body_bytes_received == before
    assert client.answers()[-1].upload == next(iter(server.uploads))
    assert client.counted() == [1, 0]


def _upload_without_a_word(client: _Client, server: CuttingServer) -> _Script:
    """A process whose upload arrived whole, and that ended before any answer to its message."""
    script = _Script(server, SIZE)
    script.says(message=script.task(0, script.by_digest(2.0)))
    script.says_plan()
    client.process(SIZE, until=ProblemError)
    return script


def test_after_a_crash_the_verdict_is_asked_for_before_anything_is_sent_again(
    client: _Client, server: CuttingServer
) -> None:
    """The answer was counted and its exchange is closed: no upload is left, and no task to make another for."""
    script = _upload_without_a_word(client, server)
    server.uploads.clear()
    sent = server.body_bytes_received
    script.says(message=VerdictMessage(verdict="duplicate"))
    script.says_problem("run-finished")
    client.process(SIZE)
    assert client.counted() == [1, 0]
    assert server.body_bytes_received == sent


def _broken_off(client: _Client, server: CuttingServer) -> _Script:
    """The connection breaks behind each of three messages with a payload inside."""
    script = _Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    for _ in range(3):
        script.says(HANGS_UP)
    return script


def test_an_answer_that_was_counted_before_its_connection_broke_stays_counted(
    client: _Client, server: CuttingServer
) -> None:
    """The client takes its message for too long; there is no open task any more to upload anything for."""
    script = _broken_off(client, server)
    script.says(message=VerdictMessage(verdict="duplicate"))
    script.says_problem("run-finished")
    client.process()
    assert client.counted() == [1, 0]
    assert not server.uploads


def test_an_answer_whose_message_is_too_long_for_its_link_travels_by_itself(
    client: _Client, server: CuttingServer
) -> None:
    script = _broken_off(client, server)
    script.says_problem("upload-not-found")
    client.process(until=ProblemError)
    (upload,) = server.uploads.values()
    assert Chain().decode(bytes(upload), script.spec)["bias"][0] == 0.5


@pytest.mark.parametrize("reason", ["upload-not-found", "upload-incomplete", "digest-mismatch"])
def test_an_upload_that_did_not_survive_is_sent_again(reason: str, client: _Client, server: CuttingServer) -> None:
    script = _upload_without_a_word(client, server)
    (known,) = server.uploads
    if reason == "upload-incomplete":
        del server.uploads[known][-100:]
    else:
        server.uploads.clear()
    before = server.body_bytes_received
    script.says_problem(reason)
    client.process(SIZE, until=ProblemError)
    (upload,) = server.uploads.values()
    assert Chain().decode(bytes(upload), script.spec)["bias"][0] == 2.5
    assert server.body_bytes_received - before == (100 if reason == "upload-incomplete" else len(upload))


def test_a_private_part_is_decoded_with_its_own_spec(client: _Client, server: CuttingServer) -> None:
    script = _Script(server)
    offset = {"offset": np.full(1, 10, np.float32)}
    private = PartMessage(inline=Chain().encode(offset, Spec.of(offset)), spec=Spec.of(offset).to_plain())
    script.says(message=script.task(0, script.whole(1.0), private))
    script.says_plan()
    script.says(message=VerdictMessage(verdict="accepted", next=script.task(1, PartMessage(form="held"))))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    assert [_answered(answer, script) for answer in client.answers()] == [11.5, 1.5]


def test_parts_that_cannot_be_read_any_more_are_asked_for_whole(client: _Client, server: CuttingServer) -> None:
    script = _Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    (client.path / "runs" / "run001" / "parts-0").write_bytes(b"damaged")
    script.says(message=script.task(1, PartMessage(form="held")))
    script.says(message=script.task(1, script.whole(4.0)))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    assert [registration.holds for registration in client.registrations()][-3:] == [{"run001": 0}, None, {"run001": 1}]
    assert _answered(client.answers()[-1], script) == 4.5


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({"model": b"\0" * 8}, "model-mismatch"),
        ({"method": "absent"}, "run-invalid"),
        ({"settings": {"unknown": 1}}, "run-invalid"),
        ({"settings": {"note": "/etc/passwd"}}, "run-invalid"),
        ({"settings": {"note": "see http://elsewhere.example"}}, "run-invalid"),
        ({"parts": {"model": {"bias": ["f64", [1 << 31]]}}}, "run-invalid"),
        ({"reply": {"bias": ["c64", [1]]}}, "run-invalid"),
        ({"chains": ChainsMessage(down=[{"name": "eval"}], up=[], full=[], private=[])}, "run-invalid"),
        ({"wire": 99}, "wire-version"),
        ({"run": "run002"}, "run-invalid"),
    ],
)
def test_a_plan_that_this_client_must_not_follow_is_refused(
    plan: dict[str, Any], reason: str, client: _Client, server: CuttingServer
) -> None:
    script = _Script(server, **plan)
    script.says(message=script.task(0))
    script.says_plan()
    folder = Folder(client.path)
    agent = Agent(client.make_transfer(server.address), folder, _learner(), say=client.said.append)
    with pytest.raises(TaskRefusedError) as caught:
        agent.serve()
    folder.close()
    assert caught.value.reason == reason
    assert _performed() == 0


def test_a_plan_with_another_digest_is_refused(client: _Client, server: CuttingServer) -> None:
    script = _Script(server)
    script.says(message=script.task(0))
    script.plan += b" "
    for _ in range(3):
        script.says_plan()
    client.process(until=TaskRefusedError)


@pytest.mark.parametrize("parts", [[], [PartMessage(form="held")], [PartMessage(digest=b"\0" * 32, size=1 << 40)]])
def test_parts_that_cannot_be_are_refused(parts: list[PartMessage], client: _Client, server: CuttingServer) -> None:
    script = _Script(server)
    script.says(message=script.task(0).model_copy(update={"parts": parts}))
    script.says_plan()
    client.process(until=TaskRefusedError)


def test_a_task_that_takes_too_long_is_stopped(client: _Client, server: CuttingServer) -> None:
    script = _Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(204)
    client.process(limits=Limits(seconds=1e-6), until=TaskTooLongError)
    assert client.answers() == []
    assert client.declined() == ["the task took more than 1e-06 s"]


def test_an_invite_is_used_once_and_the_token_kept(
    tmp_path: Path, server: CuttingServer, make_transfer: MakeTransfer
) -> None:
    script = _Script(server)
    script.says(201, Enrolled(client="client-07", token="t" * 22, group="default", role="client"))
    folder = Folder(tmp_path / "c")
    transfer = make_transfer(server.address)
    expected = Credentials(server.address, "client-07", "t" * 22)
    assert enrol(transfer, folder, "the-invite", "client-07") == expected
    assert enrol(transfer, folder, None, None) == expected
    assert len(server.requests) == 1
    assert "Authorization" not in server.requests[0][2]
    with pytest.raises(LookupError, match="belongs to a client of"):
        enrol(make_transfer("http://elsewhere.example"), folder, None, None)
    folder.close()


def test_without_an_invite_the_user_is_told_how_to_give_one(tmp_path: Path, make_transfer: MakeTransfer) -> None:
    folder = Folder(tmp_path / "c")
    with pytest.raises(LookupError, match="--invite-file"):
        enrol(make_transfer("http://127.0.0.1:9"), folder, None, None)
    folder.close()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_training_that_diverges_is_told_as_such(client: _Client, server: CuttingServer) -> None:
    up = Chain.parse("quantise(8)").to_plain()
    chains = ChainsMessage(down=[{"name": "delta"}], up=up, full=[], private=[])
    script = _Script(server, settings={"step": 1e300}, chains=chains)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(204)
    with pytest.raises(CodecError, match="diverges on this client's data: lower"):
        client.process()
    assert ["diverges on this client's data" in why for why in client.declined()] == [True]


def test_a_defect_gives_the_task_up_and_says_nothing_of_the_data(client: _Client, server: CuttingServer) -> None:
    script = _Script(server, settings={"step": 0.5, "defect": True})
    script.says(message=script.task(0))
    script.says_plan()
    script.says_problem("storage-failed")  # not even the coordinator's trouble hides the defect
    client.process(until=ZeroDivisionError)
    assert client.declined() == ["ZeroDivisionError"]
