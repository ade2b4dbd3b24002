"""What passes by itself ends no client: others that answer in the coordinator's place, and runs it cannot serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.edge_client.cutting_server import CuttingServer
from tests.edge_client.scripted import MakeTransfer, Script, ScriptedClient
from thinwire.codecs import Chain
from thinwire.edge_client.enrolment import enrol, enrol_again
from thinwire.edge_client.link.replies import BadPeerError
from thinwire.edge_client.link.resumable import download, upload
from thinwire.edge_client.link.transfer import Patience, UnreachableError
from thinwire.edge_client.memory.folder import Credentials, Folder
from thinwire.edge_client.settings import UsageError
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.encoding import encode_message
from thinwire.protocol.identity import digest_of
from thinwire.protocol.messages import Enrolled, PartMessage, Registration, VerdictMessage
from thinwire.protocol.reasons import ProblemError

PAGE = {"Content-Type": "text/html; charset=utf-8"}
MIDDLEBOXES = [
    (302, {**PAGE, "Location": "http://login.train.example/"}, b"<html>log in</html>"),
    (307, {"Location": "http://login.train.example/"}, b""),
    (200, PAGE, b"<html>log in</html>"),
    (403, PAGE, b"<html>forbidden</html>"),
    (404, PAGE, b"default backend"),
    (413, PAGE, b"<html>too large</html>"),
    (499, {}, b""),
    (503, PAGE, b""),
    (511, PAGE, b"<html>log in</html>"),
]
EACH_BOX = pytest.mark.parametrize("box", MIDDLEBOXES, ids=lambda box: str(box[0]))
PAYLOAD = bytes(range(256)) * 400


@EACH_BOX
@pytest.mark.parametrize("at", range(4))
def test_whoever_answers_in_the_coordinators_place_is_waited_out(
    box: tuple[int, dict[str, str], bytes], at: int, client: ScriptedClient, server: CuttingServer
) -> None:
    """Before a task, before its plan, before its verdict, before the end."""
    script = Script(server)
    script.says(204)
    script.says(message=script.task(0))
    script.says_plan()
    script.says(message=VerdictMessage(verdict="accepted"))
    script.says_problem("run-finished")
    server.answers[1 + at : 1 + at] = [box] * 3
    client.process()
    assert client.counted() == [1, 0]


@EACH_BOX
def test_a_payload_is_waited_for_and_nothing_else_is_taken_for_it(
    box: tuple[int, dict[str, str], bytes], server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Path
) -> None:
    server.payloads[digest_of(PAYLOAD).hex()] = PAYLOAD
    (tmp_path / digest_of(PAYLOAD).hex()).write_bytes(PAYLOAD[:5000])
    server.answers = [box] * 2
    transfer = make_transfer(server.address)
    transfer.use_token("secret")
    assert download(transfer, digest_of(PAYLOAD), len(PAYLOAD), tmp_path) == PAYLOAD
    assert {headers["Range"] for _, _, headers in server.requests} == {"bytes=5000-"}


@pytest.mark.parametrize("box", [box for box in MIDDLEBOXES if box[0] < 500], ids=lambda box: str(box[0]))
def test_where_no_coordinator_was_ever_heard_it_is_told_at_once(
    box: tuple[int, dict[str, str], bytes], server: CuttingServer, make_transfer: MakeTransfer
) -> None:
    server.answers = [box]
    with pytest.raises(BadPeerError):
        make_transfer(server.address).call("POST", "/v1/registrations", None, Registration())


def test_an_outage_is_said_and_given_up_as_asked(
    server: CuttingServer, make_transfer: MakeTransfer, said: list[str]
) -> None:
    server.answers = [(403, PAGE, b"")] * 100
    transfer = make_transfer(server.address, Patience(give_up_after_s=30))
    transfer.use_token("secret")
    with pytest.raises(UnreachableError, match="status 403 without a reason"):
        transfer.call("POST", "/v1/registrations", None, Registration())
    assert "status 403 without a reason: what answers there is not a coordinator; trying again" in said[0]


@pytest.mark.parametrize("largest", [50_000, 20_000])
def test_an_upload_passes_a_proxy_that_takes_only_small_bodies(
    largest: int, server: CuttingServer, make_transfer: MakeTransfer
) -> None:
    server.largest_body = largest
    transfer = make_transfer(server.address)
    transfer.use_token("secret")
    found = upload(transfer, "task01", PAYLOAD, known=None, remember=lambda _: None)
    assert bytes(server.uploads[found]) == PAYLOAD
    assert server.body_bytes_received == len(PAYLOAD)


def test_an_answer_too_large_for_a_proxy_travels_by_itself(client: ScriptedClient, server: CuttingServer) -> None:
    script = Script(server, 30_000)
    server.payloads.clear()
    script.says(message=script.task(0, script.by_digest(2.0)))
    script.says_plan()
    (payload,) = server.payloads.values()
    server.answers.append((200, {}, payload))
    server.largest_body = 50_000
    client.process(30_000, until=ProblemError)
    (sent,) = server.uploads.values()
    assert Chain().decode(bytes(sent), script.spec)["bias"][0] == 2.5


def test_a_run_that_a_waiting_client_cannot_serve_does_not_end_it(
    client: ScriptedClient, server: CuttingServer
) -> None:
    refused = Script(server, model=b"\0" * 8)
    usual = Script(server)
    refused.says(message=refused.task(0))
    refused.says_plan()
    refused.says(204)
    refused.says(message=refused.task(1))
    refused.says(204)
    usual.says(message=usual.task(2))
    usual.says_plan()
    usual.says(message=VerdictMessage(verdict="accepted"))
    client.process(until=ProblemError, forever=True)
    assert client.counted() == [1, 0]
    assert len(client.declined()) == 2
    assert all("model-mismatch" in why for why in client.declined())
    assert sum("/plans/" in path for _, path, _ in server.requests) == 2, "a refused plan is not fetched again"
    assert sum("declined run run001" in line for line in client.said) == 1


def test_a_client_that_does_not_wait_for_others_is_told_and_ends(client: ScriptedClient, server: CuttingServer) -> None:
    script = Script(server, model=b"\0" * 8)
    script.says(message=script.task(0, PartMessage(form="held")))
    script.says_plan()
    script.says(204)
    client.process(until=TaskRefusedError)


def test_a_coordinator_that_has_moved_is_followed_where_the_user_says_so(
    server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Path
) -> None:
    folder = Folder(tmp_path)
    folder.keep_credentials(Credentials("http://before.example", "client-00", "secret"))
    transfer = make_transfer(server.address)
    with pytest.raises(UsageError, match="--moved"):
        enrol(transfer, folder, None, None)
    expected = Credentials(server.address, "client-00", "secret")
    assert enrol(transfer, folder, None, None, moved=True) == expected
    assert folder.credentials() == expected
    folder.close()
    # Nobody has answered there yet: a slip of the pen is told.
    server.answers = [(404, PAGE, b"")]
    with pytest.raises(BadPeerError):
        transfer.call("POST", "/v1/registrations", None, Registration())


def test_a_new_invite_replaces_credentials_that_are_worth_nothing(
    server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Path
) -> None:
    folder = Folder(tmp_path)
    folder.keep_credentials(Credentials(server.address, "client-00", "dead"))
    transfer = make_transfer(server.address)
    enrol(transfer, folder, "new-invite", None)
    refused = ProblemError("token-invalid", "it was revoked")
    script = Script(server)
    script.says_problem("invite-invalid")
    with pytest.raises(ProblemError, match=r"token-invalid: it was revoked\. Nor does the invite help: invite-invalid"):
        enrol_again(transfer, folder, "old-invite", "client-00", refused)
    found = folder.credentials()
    assert found is not None
    assert found.token == "dead"  # noqa: S105  # kept until there are others
    enrolled = Enrolled(client="client-00", token="alive", group="default", role="client")  # noqa: S106
    server.answers.append((201, {"Content-Type": "application/msgpack"}, encode_message(enrolled)))
    alive = enrol_again(transfer, folder, "new-invite", "client-00", refused)
    assert folder.credentials() == alive == Credentials(server.address, "client-00", "alive", alive.link)
    assert min(alive.link) > 0  # what the dead ones have cost is none of theirs
    assert "Authorization" not in server.requests[-1][2]
    folder.close()
