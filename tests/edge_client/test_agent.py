"""What a client says and remembers, step by step, against a peer that follows a script."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.edge_client.conftest import MakeTransfer
from tests.edge_client.cutting_server import HANGS_UP, CuttingServer
from tests.edge_client.scripted import Script, ScriptedClient, learner
from thinwire.codecs import Chain, CodecError, Spec
from thinwire.edge_client.agent import Agent
from thinwire.edge_client.enrolment import enrol
from thinwire.edge_client.limits import Limits, TaskTooLongError
from thinwire.edge_client.memory.folder import Credentials, Folder
from thinwire.edge_client.settings import UsageError
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.encoding import spec_digest
from thinwire.protocol.identity import digest_of
from thinwire.protocol.messages import (
    AnswerMessage,
    ChainsMessage,
    Enrolled,
    PartMessage,
    Registration,
    VerdictMessage,
)
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.short import decode_short

SIZE = 30_000


def _performed() -> int:
    performed: int = importlib.import_module("thinwire.methods.toy_steps.client").Client.performed
    return performed


def _answered(answer: AnswerMessage, script: Script) -> float:
    assert answer.payload is not None
    return float(Chain().decode(answer.payload, script.spec)["bias"][0])


def test_a_task_is_fetched_performed_and_answered(client: ScriptedClient, server: CuttingServer) -> None:
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    assert [path for _, path, _ in server.requests] == [
        "/v1/registrations?wait_s=15",
        f"/v1/plans/{digest_of(script.plan).hex()}",
        "/v1/tasks/task000/answer?wait_s=15",
        "/v1/registrations?wait_s=15",
    ]
    answer = client.answers()[0]
    assert _answered(answer, script) == 0.5
    assert answer.examples == 5, "capped by the plan"
    assert set(answer.metrics) == {"loss", "not_finite", "seconds"}, "what is not finite is left out, and counted"
    assert answer.link is not None
    assert client.counted() == [1, 0]
    first, second = client.registrations()
    assert first.holds is None
    assert first.spec == spec_digest(script.spec)
    assert second.holds == {"run001": 0}
    # Which of its folder's it is, it says until it has been heard.
    assert (first.process, first.start, second.process, second.start) == ("aaaaaa", 1, "aaaaaa", None)


def test_what_a_folder_cost_before_its_client_enrolled_is_none_of_the_coordinators(
    client: ScriptedClient, server: CuttingServer
) -> None:
    """At another coordinator, say; all that was sent since is told, by whichever process."""
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    folder = Folder(client.path)
    folder.keep_credentials(Credentials(server.address, "client-00", "t" * 22, link=(10_000, 20_000)))
    folder.keep_link(10_300, 20_700)
    folder.close()
    client.process()
    (link,) = [answer.link for answer in client.answers()]
    folder = Folder(client.path)
    sent, received = folder.link()
    folder.close()
    assert link == (sent - 10_000, received - 20_000)
    assert 300 < link[0] < 3_000
    assert 700 < link[1] < 3_000


def test_where_the_short_form_is_known_it_is_spoken_and_says_the_same(
    client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server)
    known = {"run": "run001", "plan": digest_of(script.plan)}
    script.says_shortly(script.task(0))
    script.says_plan()
    following = script.task(1, script.delta(7.0, base=0.0))
    script.says_shortly(VerdictMessage(verdict="accepted", next=following), known)
    script.says_shortly(VerdictMessage(verdict="accepted"), known)
    script.says_problem("run-finished")
    client.process()
    assert [path for _, path, _ in server.requests] == [
        "/v1/r?wait_s=15", f"/v1/plans/{known['plan'].hex()}", "/v1/a/task000?wait_s=15", "/v1/a/task001?wait_s=15",
        "/v1/r?wait_s=15",
    ]  # fmt: skip
    first, second = (decode_short(AnswerMessage, server.bodies[place]) for place in (2, 3))
    assert (_answered(first, script), _answered(second, script)) == (0.5, 7.5)
    assert decode_short(Registration, server.bodies[4]).holds == {"run001": 1}
    assert all("content-type" not in headers for _, _, headers in server.requests)
    assert client.counted() == [2, 0]


def test_the_next_task_of_a_verdict_is_performed_at_once(client: ScriptedClient, server: CuttingServer) -> None:
    script = Script(server)
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
    verdict: Any, counted: list[int], client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(message=VerdictMessage(verdict=verdict))
    script.says_problem("run-finished")
    client.process()
    assert client.counted() == counted


def test_after_a_drop_the_memory_is_what_it_was_before_the_dropped_answer(
    client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server)
    for exchange, dropped in ((0, None), (1, None), (2, "task001"), (3, "task001"), (4, "task002")):
        script.says(message=script.task(exchange).model_copy(update={"dropped": dropped}))
        if exchange == 0:
            script.says_plan()
        # Only the last verdict can be taken back.
        script.says(message=VerdictMessage(verdict="late" if exchange == 3 else "accepted"))
    script.says_problem("run-finished")
    client.process()
    # The second counts as if it had been refused, like the fourth, which was.
    assert client.counted() == [3, 2]
    assert sum("dropped the last answer" in line for line in client.said) == 1


def test_a_client_too_late_for_a_payload_goes_on_with_the_next_task(
    client: ScriptedClient, server: CuttingServer
) -> None:
    """The exchange was closed while it fetched, and what was broadcast is no longer kept."""
    script = Script(server)
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


def test_a_task_that_lacks_its_payload_again_and_again_is_no_task(
    client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server)
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
    reason: str, client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says_problem(reason)
    script.says(message=script.task(1))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    assert client.counted() == [1, 1]


def test_an_answer_staged_before_the_end_is_offered_again_and_not_trained_again(
    client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says_problem("token-invalid")
    client.process(until=ProblemError)
    assert client.counted() == [0, 0], "no verdict, no promotion"
    script.says(message=VerdictMessage(verdict="duplicate"))
    script.says_problem("run-finished")
    client.process()
    first, second = client.answers()
    assert (second.metrics, second.examples) == (first.metrics, first.examples)
    assert (second.payload, second.received) == (None, digest_of(first.payload or b"")), "it may have arrived"
    assert _performed() == 1
    assert client.counted() == [1, 0]


def test_an_answer_that_never_arrived_is_sent_when_it_was_asked_for(
    client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says_problem("token-invalid")
    client.process(until=ProblemError)
    for reason in ("answer-not-found", "bad-message"):  # the latter of a coordinator of before there was the question
        script.says_problem(reason)
        script.says_problem("token-invalid")
        client.process(until=ProblemError)
        *_, named, sent = client.answers()
        assert (named.payload, sent.received) == (None, None)
        assert sent.payload == client.answers()[0].payload


def test_the_same_task_offered_again_gets_the_same_answer(client: ScriptedClient, server: CuttingServer) -> None:
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says(message=script.task(0))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    first, second = client.answers()
    assert second.received == digest_of(first.payload or b"")
    assert _performed() == 1
    assert client.counted() == [1, 0], "counted once"


def test_what_is_being_checked_is_asked_for_again_by_its_name(
    client: ScriptedClient, server: CuttingServer, slept: list[float]
) -> None:
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(202, **{"Retry-After": "3"})
    script.says(202, **{"Retry-After": "3"})
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    first, second, third = client.answers()
    assert first.payload is not None
    assert second == first.model_copy(update={"payload": None, "received": digest_of(first.payload)})
    assert third == second
    assert slept == [3.0, 3.0]


@pytest.mark.parametrize("end", [HANGS_UP, 503, 504])
def test_what_may_have_arrived_is_asked_about_before_it_is_sent_again(
    end: int, client: ScriptedClient, server: CuttingServer
) -> None:
    """A coordinator that is slow, behind something on the way that does not wait for so long."""
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(end)
    script.says(end)
    script.says(202)
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    first, *others = client.answers()
    assert first.payload is not None
    assert [(one.payload, one.received) for one in others] == 3 * [(None, digest_of(first.payload))]
    assert client.counted() == [1, 0]


@pytest.mark.parametrize(("value", "own_first", "travels"), [(0.0, True, False), (0.0, False, True), (2.0, True, True)])
def test_a_first_model_that_is_this_clients_own_need_not_travel(
    value: float, own_first: bool, travels: bool, client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server)
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


def test_a_large_part_and_a_large_answer_travel_by_digest_and_upload(
    client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server, SIZE)
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


def _upload_without_a_word(client: ScriptedClient, server: CuttingServer) -> Script:
    """A process whose upload arrived whole, and that ended before any answer to its message."""
    script = Script(server, SIZE)
    script.says(message=script.task(0, script.by_digest(2.0)))
    script.says_plan()
    client.process(SIZE, until=ProblemError)
    return script


def test_after_a_crash_the_verdict_is_asked_for_before_anything_is_sent_again(
    client: ScriptedClient, server: CuttingServer
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


def _broken_off(client: ScriptedClient, server: CuttingServer) -> Script:
    """The connection breaks behind each of three messages with a payload inside, of which two do not arrive."""
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    for _ in range(2):
        script.says(HANGS_UP)
        script.says_problem("answer-not-found")
    script.says(HANGS_UP)
    return script


def test_an_answer_that_was_counted_before_its_connection_broke_stays_counted(
    client: ScriptedClient, server: CuttingServer
) -> None:
    """The client takes its message for too long; there is no open task any more to upload anything for."""
    script = _broken_off(client, server)
    script.says(message=VerdictMessage(verdict="duplicate"))
    script.says_problem("run-finished")
    client.process()
    assert client.counted() == [1, 0]
    assert not server.uploads


def test_an_answer_whose_message_is_too_long_for_its_link_travels_by_itself(
    client: ScriptedClient, server: CuttingServer
) -> None:
    script = _broken_off(client, server)
    script.says_problem("answer-not-found")
    client.process(until=ProblemError)
    (upload,) = server.uploads.values()
    assert Chain().decode(bytes(upload), script.spec)["bias"][0] == 0.5


@pytest.mark.parametrize("reason", ["upload-not-found", "upload-incomplete", "digest-mismatch"])
def test_an_upload_that_did_not_survive_is_sent_again(
    reason: str, client: ScriptedClient, server: CuttingServer
) -> None:
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


def test_a_private_part_is_decoded_with_its_own_spec(client: ScriptedClient, server: CuttingServer) -> None:
    script = Script(server)
    offset = {"offset": np.full(1, 10, np.float32)}
    private = PartMessage(inline=Chain().encode(offset, Spec.of(offset)), spec=Spec.of(offset).to_plain())
    script.says(message=script.task(0, script.whole(1.0), private))
    script.says_plan()
    script.says(message=VerdictMessage(verdict="accepted", next=script.task(1, PartMessage(form="held"))))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    assert [_answered(answer, script) for answer in client.answers()] == [11.5, 1.5]


def test_parts_that_cannot_be_read_any_more_are_asked_for_whole(client: ScriptedClient, server: CuttingServer) -> None:
    script = Script(server)
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
    plan: dict[str, Any], reason: str, client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server, **plan)
    script.says(message=script.task(0))
    script.says_plan()
    folder = Folder(client.path)
    agent = Agent(client.make_transfer(server.address), folder, learner(), say=client.said.append)
    with pytest.raises(TaskRefusedError) as caught:
        agent.serve()
    folder.close()
    assert caught.value.reason == reason
    assert _performed() == 0


def test_a_plan_with_another_digest_is_refused(client: ScriptedClient, server: CuttingServer) -> None:
    script = Script(server)
    script.says(message=script.task(0))
    script.plan += b" "
    for _ in range(3):
        script.says_plan()
    client.process(until=TaskRefusedError)


@pytest.mark.parametrize("parts", [[], [PartMessage(form="held")], [PartMessage(digest=b"\0" * 32, size=1 << 40)]])
def test_parts_that_cannot_be_are_refused(
    parts: list[PartMessage], client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server)
    script.says(message=script.task(0).model_copy(update={"parts": parts}))
    script.says_plan()
    client.process(until=TaskRefusedError)


def test_a_task_that_takes_too_long_is_stopped(client: ScriptedClient, server: CuttingServer) -> None:
    script = Script(server)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(204)
    client.process(limits=Limits(seconds=1e-6), until=TaskTooLongError)
    assert client.answers() == []
    assert client.declined() == ["the task took more than 1e-06 s"]


def test_an_invite_is_used_once_and_the_token_kept(
    tmp_path: Path, server: CuttingServer, make_transfer: MakeTransfer
) -> None:
    script = Script(server)
    script.says(201, Enrolled(client="client-07", token="t" * 22, group="default", role="client"))
    folder = Folder(tmp_path / "c")
    transfer = make_transfer(server.address)
    expected = Credentials(server.address, "client-07", "t" * 22)
    assert enrol(transfer, folder, "the-invite", "client-07") == expected
    assert enrol(transfer, folder, None, None) == expected
    assert len(server.requests) == 1
    assert "Authorization" not in server.requests[0][2]
    with pytest.raises(UsageError, match="belongs to a client of"):
        enrol(make_transfer("http://elsewhere.example"), folder, None, None)
    folder.close()


def test_without_an_invite_the_user_is_told_how_to_give_one(tmp_path: Path, make_transfer: MakeTransfer) -> None:
    folder = Folder(tmp_path / "c")
    with pytest.raises(UsageError, match="--invite-file"):
        enrol(make_transfer("http://127.0.0.1:9"), folder, None, None)
    folder.close()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_training_that_diverges_is_told_as_such(client: ScriptedClient, server: CuttingServer) -> None:
    up = Chain.parse("quantise(8)").to_plain()
    chains = ChainsMessage(down=[{"name": "delta"}], up=up, full=[], private=[])
    script = Script(server, settings={"step": 1e300}, chains=chains)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(204)
    with pytest.raises(CodecError, match="diverges on this client's data: lower"):
        client.process()
    assert ["diverges on this client's data" in why for why in client.declined()] == [True]


def test_a_model_that_others_have_broken_is_declined_and_the_next_one_is_waited_for(
    client: ScriptedClient, server: CuttingServer
) -> None:
    script = Script(server)
    script.says(message=script.task(4, script.whole(float("nan"))))
    script.says_plan()
    script.says(204)
    script.says(message=script.task(5))
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    client.process()
    assert ["model received is broken" in why for why in client.declined()] == [True]
    assert any("declined a task: the model received is broken" in line for line in client.said)
    assert [_answered(answer, script) for answer in client.answers()] == [5.5]


def test_a_defect_gives_the_task_up_and_says_nothing_of_the_data(client: ScriptedClient, server: CuttingServer) -> None:
    script = Script(server, settings={"step": 0.5, "defect": True})
    script.says(message=script.task(0))
    script.says_plan()
    script.says_problem("storage-failed")  # not even the coordinator's trouble hides the defect
    client.process(until=ZeroDivisionError)
    assert client.declined() == ["ZeroDivisionError"]
