"""The number is the wire: ledger, proxy and kernels count the same bytes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.counting_proxy import CountingProxy
from thinwire.operator.tables import total
from thinwire.protocol.messages import LedgerRow
from thinwire.protocol.settings import RunSettings

from .conftest import Service, until

CLIENTS = 2
SETTINGS = RunSettings(name="wire", rounds=3, cohort=CLIENTS)


def _train(service: Service, proxy: CountingProxy, model: Path, settings: RunSettings = SETTINGS) -> str:
    """The id of a run that is over, its clients gone."""
    for index in range(CLIENTS):
        service.join_digits(index, CLIENTS, url=proxy.url)
    run = service.start_run(model, settings).id
    until(lambda: service.view(run).state == "finished", service.children)
    until(service.clients_have_ended, service.children)
    assert service.view(run).outcome == "completed"
    return run


@dataclass(frozen=True)
class Trained:
    """A run over plain HTTP that is over, and what passed the proxy in front of its coordinator."""

    service: Service
    run: str
    proxy_total: tuple[int, int]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, digits_model: Path) -> Iterator[Trained]:
    with Service(tmp_path_factory.mktemp("plain")) as service:
        service.serve()
        with CountingProxy(service.url) as proxy:
            run = _train(service, proxy, digits_model)
        yield Trained(service, run, proxy.total)


def _client_rows(service: Service, run: str) -> list[LedgerRow]:
    return [row for row in service.ledger(run).rows if row.client]


def test_over_plain_http_all_three_counts_are_equal_to_the_byte(trained: Trained) -> None:
    rows = _client_rows(trained.service, trained.run)
    counted = total(rows)
    assert (counted.uplink, counted.downlink) == trained.proxy_total
    for name in trained.service.clients:
        own = total(row for row in rows if row.client == name)
        assert (own.uplink, own.downlink) == trained.service.kernel(name)
    assert {row.kind for row in rows} >= {"enrol", "register", "plan", "answer", "evaluate"}
    assert "connect" not in {row.kind for row in rows}


def test_what_an_exchange_cost_is_the_sum_of_its_rows(trained: Trained) -> None:
    service, run = trained.service, trained.run
    rows, exchanges = service.ledger(run).rows, service.metrics(run).exchanges
    assert [one.kind for one in exchanges] == ["train", "train", "train", "evaluate"]
    spent_up = spent_down = 0
    for one in exchanges:
        own = total(row for row in rows if row.exchange == one.exchange and row.run == run)
        assert (one.uplink_bytes, one.downlink_bytes) == (own.uplink, own.downlink)
        assert (one.uplink_payload_bytes, one.downlink_payload_bytes) == (own.uplink_payload, own.downlink_payload)
        assert (one.uplink_bytes_before, one.downlink_bytes_before) == (spent_up, spent_down)
        spent_up, spent_down = spent_up + own.uplink, spent_down + own.downlink


def test_the_ledger_outlives_the_coordinator(trained: Trained) -> None:
    service, before = trained.service, _client_rows(trained.service, trained.run)
    service.coordinator.process.terminate()
    service.coordinator.process.wait()
    service.children.forget(service.coordinator)
    service.serve()
    assert _client_rows(service, trained.run) == before


@pytest.fixture
def tls_service(tmp_path: Path) -> Iterator[Service]:
    """A coordinator with a certificate of its own for `localhost`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the test's certificate, is not on this machine")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    with Service(tmp_path, "--certificate", str(certificate), "--key", str(key), ca_file=certificate) as made:
        made.serve()
        yield made


def test_over_tls_the_difference_is_a_kind_of_its_own(tls_service: Service, digits_model: Path) -> None:
    with CountingProxy(tls_service.url) as proxy:
        run = _train(tls_service, proxy, digits_model)
        rows = [row for row in tls_service.ledger(run).rows if row.client]
        uplink, downlink = proxy.total
        connections = proxy.connections
    plain = total(row for row in rows if row.kind != "connect")
    connect = total(row for row in rows if row.kind == "connect")
    # Handshakes and records cost bytes that the transport above TLS does not see.
    assert connect.requests == connections
    assert connect.uplink > 0
    assert connect.downlink > 0
    assert (plain.uplink + connect.uplink, plain.downlink + connect.downlink) == (uplink, downlink)
