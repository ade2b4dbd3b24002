"""Emulated links change when bytes pass, never which."""

from __future__ import annotations

import random
from pathlib import Path
from random import Random

import pytest

from tests.edge_client.conftest import MakeTransfer
from tests.edge_client.cutting_server import CuttingServer
from thinwire.edge_client.link.emulated import Pacer
from thinwire.edge_client.link.resumable import download, upload
from thinwire.edge_client.link.sockets import CountingBackend
from thinwire.machine.link_rates import PRESETS, LinkRates, parse_link
from thinwire.protocol.identity import digest_of

PAYLOAD = random.Random(1).randbytes(50_000)


class _Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)

    def pacer(self, rates: LinkRates) -> Pacer:
        return Pacer(rates, Random(0), clock=self.read, sleep=self.sleep)


def test_bytes_take_the_time_of_their_rate() -> None:
    clock = _Clock()
    pacer = clock.pacer(LinkRates(8_000, 80_000, 0))
    for _ in range(10):
        pacer.sent(100)
    assert clock.now == pytest.approx(1)
    pacer.received(10_000)
    assert clock.now == pytest.approx(2)


def test_a_turn_takes_a_round_trip() -> None:
    clock = _Clock()
    clock.pacer(LinkRates(1e9, 1e9, 0.6)).turn()
    assert clock.now == pytest.approx(0.6)


def test_loss_stalls_and_seldom_cuts() -> None:
    clock = _Clock()
    rates = LinkRates(1e6, 1e6, 0.1, 0.2)
    pacer = clock.pacer(rates)
    cuts = sum(pacer.sent(12_500) for _ in range(5_000))
    stalls = (clock.now - 500) / rates.stall_s
    assert 800 <= stalls <= 1200
    assert 5 <= cuts <= 50


def test_a_link_without_loss_neither_stalls_nor_cuts() -> None:
    clock = _Clock()
    pacer = clock.pacer(LinkRates(1e6, 1e6, 0.1))
    assert not any(pacer.sent(12_500) for _ in range(100))
    assert clock.now == pytest.approx(10)


@pytest.mark.parametrize("rates", [LinkRates(4e5, 4e5, 0.05), LinkRates(4e5, 4e5, 0.05, 0.3)])
def test_what_arrives_over_a_thin_link_is_the_same(
    rates: LinkRates, server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Path
) -> None:
    server.payloads[digest_of(PAYLOAD).hex()] = PAYLOAD
    clock = _Clock()
    backend = CountingBackend(clock.pacer(rates))
    transfer = make_transfer(server.address, backend=backend)
    assert download(transfer, digest_of(PAYLOAD), len(PAYLOAD), tmp_path) == PAYLOAD
    found = upload(transfer, "task01", PAYLOAD, known=None, remember=lambda _: None)
    assert bytes(server.uploads[found]) == PAYLOAD
    # No faster than the rate allows in each direction, by the link's own clock.
    least = backend.process.sent * 8 / rates.up_bps + backend.process.received * 8 / rates.down_bps
    assert clock.now >= least
    # Sent in pieces, so that others can move meanwhile.
    assert len(clock.pauses) > 2 * len(PAYLOAD) * 8 / rates.up_bps


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("64kbit,300ms,1%", LinkRates(64e3, 64e3, 0.3, 0.01)),
        ("64kbit/1.5mbit,2s", LinkRates(64e3, 1.5e6, 2)),
        ("1g", LinkRates(1e9, 1e9, 0)),
        ("9600,100ms,0.05", LinkRates(9600, 9600, 0.1, 0.05)),
        ("9600,0,0", LinkRates(9600, 9600, 0)),
        *PRESETS.items(),
    ],
)
def test_links_are_written_as_people_say_them(text: str, rates: LinkRates) -> None:
    assert parse_link(text) == rates


@pytest.mark.parametrize(
    "text", ["", "6h", "0bit", "64kbit,fast", "64kbit,1s,100%", "64kbit,1s,x", "-5k", "64kbit,300,0"]
)
def test_a_link_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no link is"):
        parse_link(text)
