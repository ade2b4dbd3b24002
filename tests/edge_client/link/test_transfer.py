"""Requests are thin, counted, repeated while it helps, and go nowhere else."""

from __future__ import annotations

import json
import socket

import pytest

from tests.edge_client.conftest import MakeTransfer
from tests.edge_client.cutting_server import CuttingServer
from thinwire.edge_client.link.replies import BadPeerError, FinishedError, retry_after
from thinwire.edge_client.link.sockets import CountingBackend
from thinwire.edge_client.link.transfer import Patience, UnreachableError
from thinwire.protocol.encoding import MSGPACK, decode_message, encode_message
from thinwire.protocol.messages import Registration, VerdictMessage
from thinwire.protocol.reasons import ProblemError

VERDICT = encode_message(VerdictMessage(verdict="accepted"))
PACKED = {"Content-Type": MSGPACK}


def _problem(reason: str, **more: object) -> bytes:
    return json.dumps({"reason": reason, "detail": "so it is", "retry": False, **more}).encode()


def test_a_request_carries_four_headers(server: CuttingServer, make_transfer: MakeTransfer) -> None:
    server.answers = [(200, PACKED, VERDICT)]
    transfer = make_transfer(server.address)
    transfer.use_token("secret")
    _, verdict, _ = transfer.call("POST", "/v1/x", VerdictMessage, Registration())
    assert verdict == VerdictMessage(verdict="accepted")
    headers = server.requests[0][2]
    assert headers == {
        "Host": server.address.removeprefix("http://"),
        "Authorization": "Bearer secret",
        "Content-Type": MSGPACK,
        "Content-Length": str(len(encode_message(Registration()))),
    }


def test_one_connection_serves_all_requests(server: CuttingServer, make_transfer: MakeTransfer) -> None:
    server.answers = [(200, PACKED, VERDICT)] * 5
    transfer = make_transfer(server.address)
    for _ in range(5):
        transfer.call("POST", "/v1/x", VerdictMessage, Registration())
    assert server.connections == 1


def test_counts_are_what_crossed_the_socket(server: CuttingServer, make_transfer: MakeTransfer) -> None:
    server.answers = [(200, PACKED, VERDICT)]
    backend = CountingBackend()
    transfer = make_transfer(server.address, backend=backend)
    transfer.call("POST", "/v1/x", VerdictMessage, Registration())
    body = encode_message(Registration())
    lines = ["POST /v1/x HTTP/1.1", *(f"{name}: {value}" for name, value in server.requests[0][2].items()), "", ""]
    assert backend.process.sent == len("\r\n".join(lines)) + len(body)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {MSGPACK}\r\nContent-Length: {len(VERDICT)}\r\n\r\n"
    assert backend.process.received == len(head) + len(VERDICT)
    before = backend.kernel()
    transfer.close()
    assert backend.kernel() == before
    if hasattr(socket, "TCP_INFO"):
        assert (before.sent, before.received) == (backend.process.sent, backend.process.received)


def test_the_kernel_s_counts_of_closed_connections_are_kept(server: CuttingServer, make_transfer: MakeTransfer) -> None:
    if not hasattr(socket, "TCP_INFO"):
        pytest.skip("this kernel gives no TCP_INFO")
    backend = CountingBackend()
    transfer = make_transfer(server.address, backend=backend)
    server.answers = [(200, {**PACKED, "Connection": "close"}, VERDICT)] * 3
    for _ in range(3):
        transfer.call("POST", "/v1/x", VerdictMessage, Registration())
    assert backend.connections == 3
    kernel = backend.kernel()
    assert (kernel.sent, kernel.received) == (backend.process.sent, backend.process.received)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_may_pass_is_tried_again(
    status: int, server: CuttingServer, make_transfer: MakeTransfer, slept: list[float], said: list[str]
) -> None:
    server.answers = [(status, {}, b"")] * 3 + [(200, PACKED, VERDICT)]
    make_transfer(server.address).call("POST", "/v1/x", VerdictMessage, Registration())
    assert len(server.requests) == 4
    assert len(slept) == 3
    assert len(said) == 1


def test_retry_after_is_honoured(server: CuttingServer, make_transfer: MakeTransfer, slept: list[float]) -> None:
    server.answers = [(503, {"Retry-After": "40"}, b""), (200, PACKED, VERDICT)]
    make_transfer(server.address).call("POST", "/v1/x", VerdictMessage, Registration())
    assert 40 <= slept[0] <= 41


def test_pauses_grow_to_a_bound_and_differ(
    server: CuttingServer, make_transfer: MakeTransfer, slept: list[float]
) -> None:
    server.answers = [(503, {}, b"")] * 60 + [(200, PACKED, VERDICT)]
    make_transfer(server.address).call("POST", "/v1/x", VerdictMessage, Registration())
    assert max(slept[:3]) <= 2
    assert max(slept) <= 60
    assert sum(slept[30:]) / 30 > 15
    assert len(set(slept)) == 60


@pytest.mark.parametrize("reason", ["token-invalid", "invite-invalid", "task-not-found", "answer-invalid"])
def test_a_reason_that_repeating_cannot_help_is_raised_at_once(
    reason: str, server: CuttingServer, make_transfer: MakeTransfer, slept: list[float]
) -> None:
    server.answers = [(400, {"Content-Type": "application/json"}, _problem(reason))]
    with pytest.raises(ProblemError, match=reason):
        make_transfer(server.address).call("POST", "/v1/x", VerdictMessage, Registration())
    assert slept == []


def test_the_end_of_all_runs_names_the_model(server: CuttingServer, make_transfer: MakeTransfer) -> None:
    body = _problem("run-finished", model="ab" * 32)
    server.answers = [(410, {"Content-Type": "application/json"}, body)]
    with pytest.raises(FinishedError) as caught:
        make_transfer(server.address).call("POST", "/v1/x", VerdictMessage, Registration())
    assert caught.value.model == b"\xab" * 32


def test_redirects_are_not_followed(server: CuttingServer, make_transfer: MakeTransfer) -> None:
    server.answers = [(307, {"Location": "http://elsewhere.example/"}, b"")]
    with pytest.raises(BadPeerError, match=r"redirects to http://elsewhere\.example/"):
        make_transfer(server.address).call("POST", "/v1/x", VerdictMessage, Registration())
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"reason": "of my own", "detail": "", "retry": false}'])
def test_what_is_not_a_coordinator_is_called_so(
    body: bytes, server: CuttingServer, make_transfer: MakeTransfer
) -> None:
    server.answers = [(404, {"Content-Type": "application/json"}, body)]
    with pytest.raises(BadPeerError, match="not a coordinator"):
        make_transfer(server.address).call("POST", "/v1/x", VerdictMessage, Registration())


def test_a_response_without_end_is_not_read_to_its_end(server: CuttingServer, make_transfer: MakeTransfer) -> None:
    server.answers = [(200, PACKED, b"x" * (1 << 20))]
    with pytest.raises(BadPeerError, match="more than"):
        make_transfer(server.address).call("POST", "/v1/x", VerdictMessage, Registration())


def test_nobody_there_is_said_and_given_up_as_asked(
    free_port: int, make_transfer: MakeTransfer, slept: list[float], said: list[str]
) -> None:
    transfer = make_transfer(f"http://127.0.0.1:{free_port}", Patience(give_up_after_s=30))
    with pytest.raises(UnreachableError, match="gave up after 30 s"):
        transfer.call("POST", "/v1/x", VerdictMessage, Registration())
    assert sum(slept) >= 30
    assert "refused" in said[0]
    assert "trying again" in said[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_stands_between_a_machine_and_itself(
    host: str, server: CuttingServer, make_transfer: MakeTransfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.answers = [(200, PACKED, VERDICT)]
    transfer = make_transfer(server.address.replace("127.0.0.1", host))
    transfer.call("POST", "/v1/x", VerdictMessage, Registration())
    assert len(server.requests) == 1


def test_a_proxy_on_the_way_is_used_and_named_without_its_password(
    free_port: int, make_transfer: MakeTransfer, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{free_port}")
    transfer = make_transfer("http://coordinator.example", Patience(give_up_after_s=0))
    with pytest.raises(UnreachableError, match=f"through the proxy 127.0.0.1:{free_port}") as caught:
        transfer.call("POST", "/v1/x", VerdictMessage, Registration())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["coordinator:8750", "ftp://host", "http://", "http://user@host", "http://h/?a=1"])
def test_an_address_that_is_none_is_refused(address: str, make_transfer: MakeTransfer) -> None:
    with pytest.raises(BadPeerError, match="not an address"):
        make_transfer(address)


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("0", 0), ("", None), ("-1", None), ("nan", None), ("1e9", None)]
)
def test_retry_after_is_read_with_sense(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}) == seconds


def test_a_message_is_read_back_as_it_was_sent(server: CuttingServer, make_transfer: MakeTransfer) -> None:
    server.answers = [(200, PACKED, VERDICT)]
    _, found, _ = make_transfer(server.address).call("POST", "/v1/x", VerdictMessage, Registration())
    assert found == decode_message(VerdictMessage, VERDICT)
