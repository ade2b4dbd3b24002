"""How long a poll is: it learns what the link lets rest, and forgets what it only seemed to learn."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge_client.cutting_server import CuttingServer
from tests.edge_client.scripted import MakeTransfer, Script, learner
from thinwire.edge_client.agent import Agent
from thinwire.edge_client.link.polling import LONGEST_POLL_S, SHORTEST_POLL_S, PollLength
from thinwire.edge_client.link.sockets import CountingBackend, Standstill
from thinwire.edge_client.memory.folder import Folder


def _polled(length: PollLength, dies_after_s: float, polls: int) -> tuple[float, int]:
    """Seconds that polls took on a link where resting connections die unheard so late, and how many of them died."""
    took, died = 0.0, 0
    for _ in range(polls):
        if min(length.keepalive_s, length.seconds) > dies_after_s:
            died += 1
            # Found by the kernel's probes, or by the timeout of the poll.
            took += min(length.seconds + 60, length.keepalive_s + 30)
            length.lost(min(length.seconds, length.keepalive_s + 30))
        else:
            took += length.seconds
            length.held()
    return took, died


def test_on_a_good_link_polls_soon_are_as_long_as_may_be() -> None:
    length = PollLength()
    _, died = _polled(length, 1e9, 7)
    assert (length.seconds, died) == (LONGEST_POLL_S, 0)


@given(dies_after_s=st.integers(SHORTEST_POLL_S, 2 * LONGEST_POLL_S))
def test_a_link_that_forgets_costs_little_of_a_day_and_stays_within_what_it_lets_rest(dies_after_s: int) -> None:
    length = PollLength()
    took, died, before = 0.0, 0, 0.0
    while took < 86_400:
        more, lost = _polled(length, dies_after_s, 1)
        took, died, before = took + more, died + lost, before + more * lost
    assert before < 0.05 * took
    assert died < 10


@given(st.lists(st.one_of(st.none(), st.floats(0, 600)), max_size=200))
def test_a_poll_is_never_shorter_or_longer_than_the_bounds(events: list[float | None]) -> None:
    length = PollLength()
    for lived_s in events:
        if lived_s is None:
            length.held()
        else:
            length.lost(lived_s)
        assert SHORTEST_POLL_S <= length.seconds <= LONGEST_POLL_S
        assert SHORTEST_POLL_S <= length.keepalive_s <= length.seconds


def test_a_link_that_has_become_better_is_found_out() -> None:
    length = PollLength()
    _polled(length, 20, 40)
    assert length.seconds < LONGEST_POLL_S
    _polled(length, 1e9, 5000)
    assert length.seconds == LONGEST_POLL_S


def test_a_late_confirmation_of_the_request_is_no_progress() -> None:
    standstill = Standstill(60, now_s=0, confirmed=0)
    assert standstill.left_s(4, 300) == 60
    assert standstill.left_s(34, 300) == 30
    assert standstill.left_s(64, 300) == 0
    assert standstill.left_s(65, 301) == 60, "bytes that move are progress, for as long as they do"


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this kernel takes no interval of a connection's own")
def test_the_kernel_asks_for_a_silent_peer_within_the_minute(
    server: CuttingServer, make_transfer: MakeTransfer
) -> None:
    backend = CountingBackend()
    transfer = make_transfer(server.address, backend=backend)
    for wanted in (15, 60):
        backend.keepalive_s = wanted
        server.answers.append((204, {}, b""))
        with transfer.open("POST", "/v1/x", {}) as response:
            connection = response.extensions["network_stream"].get_extra_info("socket")
            response.read()
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == wanted
        every, times = (connection.getsockopt(socket.IPPROTO_TCP, what) for what in (5, 6))
        assert every * times <= 60
    assert backend.connections == 1


class _Hours:
    """A clock that moves on by so much at each look."""

    def __init__(self, step_s: float) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


@pytest.mark.parametrize("status", [499, 504, 408, 502])
def test_a_proxy_that_answers_polls_itself_is_no_outage(
    status: int, server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Any, slept: list[float]
) -> None:
    script = Script(server)
    for _ in range(30):
        script.says(status)
    script.says_problem("run-finished")
    folder = Folder(tmp_path)
    transfer = make_transfer(server.address)
    transfer.use_token("secret")
    Agent(transfer, folder, learner(), say=lambda _: None, now_s=_Hours(20)).serve()
    folder.close()
    assert slept == [], "asked again at once"
    assert {path for _, path, _ in server.requests} == {"/v1/registrations?wait_s=15"}
