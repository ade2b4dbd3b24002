"""TLS above the counting: counts are of what crosses the network, sessions are resumed, strangers are not trusted."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.certificates import Certificate, signed
from tests.edge_client.cutting_server import CuttingServer, running
from thinwire.edge_client.link.resumable import download, upload
from thinwire.edge_client.link.sockets import CountingBackend, UntrustedError
from thinwire.edge_client.link.transfer import Patience, Transfer, UnreachableError
from thinwire.protocol.identity import digest_of

PAYLOAD = Random(2).randbytes(200_000)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return signed(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture
def secure(certificate: Certificate) -> Iterator[CuttingServer]:
    with running() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server


def _transfer(server: CuttingServer, trusted: Path | None, slept: list[float]) -> Transfer:
    return Transfer(
        server.address.replace("http://", "https://"),
        CountingBackend(),
        rng=Random(0),
        say=lambda _: None,
        patience=Patience(stalled_after_s=20, give_up_after_s=5),
        tls=ssl.create_default_context(cafile=trusted),
        clock=lambda: sum(slept),
        sleep=slept.append,
    )


@pytest.mark.parametrize("cut_after", [None, 60_000])
def test_transfers_over_tls_go_on_where_they_were_cut(
    cut_after: int | None, secure: CuttingServer, certificate: Certificate, tmp_path: Path, slept: list[float]
) -> None:
    secure.cut_after = cut_after
    secure.payloads[digest_of(PAYLOAD).hex()] = PAYLOAD
    transfer = _transfer(secure, certificate.authority, slept)
    assert download(transfer, digest_of(PAYLOAD), len(PAYLOAD), tmp_path) == PAYLOAD
    found = upload(transfer, "task01", PAYLOAD, known=None, remember=lambda _: None)
    assert bytes(secure.uploads[found]) == PAYLOAD
    assert secure.body_bytes_received == len(PAYLOAD)
    transfer.close()


def test_counts_are_of_what_crosses_the_network(
    secure: CuttingServer, certificate: Certificate, tmp_path: Path, slept: list[float]
) -> None:
    if not hasattr(socket, "TCP_INFO"):
        pytest.skip("this kernel gives no TCP_INFO")
    secure.payloads[digest_of(PAYLOAD).hex()] = PAYLOAD
    transfer = _transfer(secure, certificate.authority, slept)
    download(transfer, digest_of(PAYLOAD), len(PAYLOAD), tmp_path)
    kernel, process = transfer.backend.kernel(), transfer.backend.process
    assert (kernel.sent, kernel.received) == (process.sent, process.received)
    assert process.received > len(PAYLOAD) + 500
    transfer.close()


def test_a_second_connection_resumes_the_session(
    secure: CuttingServer, certificate: Certificate, tmp_path: Path, slept: list[float]
) -> None:
    payload = PAYLOAD[:100]
    secure.payloads[digest_of(payload).hex()] = payload
    transfer = _transfer(secure, certificate.authority, slept)
    costs = []
    for _ in range(2):
        before = transfer.backend.process.received
        # A cut behind the last byte is none: the server only closes.
        secure.answers = [(200, {"Connection": "close"}, payload)]
        download(transfer, digest_of(payload), len(payload), tmp_path)
        costs.append(transfer.backend.process.received - before)
    assert transfer.backend.connections == 2
    assert costs[1] < costs[0] - 300, "the certificate is not sent again"
    transfer.close()


def test_an_unknown_certificate_is_not_trusted(secure: CuttingServer, tmp_path: Path, slept: list[float]) -> None:
    transfer = _transfer(secure, None, slept)
    with pytest.raises(UntrustedError, match=r"not trusted: .*certificate"):
        download(transfer, digest_of(PAYLOAD), len(PAYLOAD), tmp_path)
    assert secure.requests == []
    # Where a coordinator is known to live, a certificate that is not valid yet, or no more, passes.
    transfer.use_token("secret")
    with pytest.raises(UnreachableError, match="not trusted"):
        download(transfer, digest_of(PAYLOAD), len(PAYLOAD), tmp_path)
    assert sum(slept) >= 5
    assert secure.requests == []
    transfer.close()


def test_a_certificate_that_is_not_valid_yet_is_waited_for(secure: CuttingServer, slept: list[float]) -> None:
    """A device without a clock of its own starts years ago: nobody has to come to it."""
    error = ssl.SSLCertVerificationError()
    errors = []
    for code in (9, 10):
        error.verify_code, error.verify_message = code, "certificate is not valid"
        errors.append(UntrustedError("coordinator.example", error))
    early, late = errors
    assert ("by this device's clock it is 20" in str(early), early.early, late.early) == (True, True, False)
    transfer = _transfer(secure, None, slept)
    outcomes = iter([early, early, None])

    def attempt() -> str:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return "served"

    assert transfer.persist(attempt) == "served"
    assert len(slept) == 2
    outcomes = iter([late])
    with pytest.raises(UntrustedError):
        transfer.persist(attempt)
    transfer.close()
