"""What an exchange and a waiting client cost beside their payload stays small: the benchmark's figures, in short."""

from __future__ import annotations

from benchmarks import framing

MAX_FRAMING_BYTES = 300
MAX_IDLE_BYTES_PER_SECOND = 1.0


def test_framing_of_a_small_exchange() -> None:
    cost = framing.exchange(4, tls=False)
    assert 0 < cost.payload_up < 1000
    assert 0 < cost.payload_down < 1000
    assert 0 < cost.framing <= MAX_FRAMING_BYTES


def test_a_waiting_client_costs_about_a_byte_per_second() -> None:
    for poll in framing.idle((300, 600), tls=False):
        assert 0 < poll.per_second <= MAX_IDLE_BYTES_PER_SECOND
