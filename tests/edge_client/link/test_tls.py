"""TLS above the counting: counts are of what crosses the network, sessions are resumed, strangers are not trusted."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.edge_client.cutting_server import CuttingServer, running
from thinwire.edge_client.link.resumable import download, upload
from thinwire.edge_client.link.sockets import CountingBackend, UntrustedError
from thinwire.edge_client.link.transfer import Patience, Transfer, UnreachableError
from thinwire.protocol.identity import digest_of

PAYLOAD = Random(2).randbytes(200_000)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key beside it as `key.pem`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture
def secure(certificate: Path) -> Iterator[CuttingServer]:
    with running() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
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
    cut_after: int | None, secure: CuttingServer, certificate: Path, tmp_path: Path, slept: list[float]
) -> None:
    secure.cut_after = cut_after
    secure.payloads[digest_of(PAYLOAD).hex()] = PAYLOAD
    transfer = _transfer(secure, certificate, slept)
    assert download(transfer, digest_of(PAYLOAD), len(PAYLOAD), tmp_path) == PAYLOAD
    found = upload(transfer, "task01", PAYLOAD, known=None, remember=lambda _: None)
    assert bytes(secure.uploads[found]) == PAYLOAD
    assert secure.body_bytes_received == len(PAYLOAD)
    transfer.close()


def test_counts_are_of_what_crosses_the_network(
    secure: CuttingServer, certificate: Path, tmp_path: Path, slept: list[float]
) -> None:
    if not hasattr(socket, "TCP_INFO"):
        pytest.skip("this kernel gives no TCP_INFO")
    secure.payloads[digest_of(PAYLOAD).hex()] = PAYLOAD
    transfer = _transfer(secure, certificate, slept)
    download(transfer, digest_of(PAYLOAD), len(PAYLOAD), tmp_path)
    kernel, process = transfer.backend.kernel(), transfer.backend.process
    assert (kernel.sent, kernel.received) == (process.sent, process.received)
    assert process.received > len(PAYLOAD) + 500
    transfer.close()


def test_a_second_connection_resumes_the_session(
    secure: CuttingServer, certificate: Path, tmp_path: Path, slept: list[float]
) -> None:
    payload = PAYLOAD[:100]
    secure.payloads[digest_of(payload).hex()] = payload
    transfer = _transfer(secure, certificate, slept)
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
    with pytest.raises(UntrustedError, match=r"not trusted: self.signed certificate"):
        download(transfer, digest_of(PAYLOAD), len(PAYLOAD), tmp_path)
    assert secure.requests == []
    # Where a coordinator is known to live, a certificate that is not valid yet, or no more, passes.
    transfer.use_token("secret")
    with pytest.raises(UnreachableError, match="not trusted"):
        download(transfer, digest_of(PAYLOAD), len(PAYLOAD), tmp_path)
    assert sum(slept) >= 5
    assert secure.requests == []
    transfer.close()
