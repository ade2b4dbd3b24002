"""The coordinator as a process: it starts, says where it is, and stops when told to, whoever is waiting."""

from __future__ import annotations

import json
import signal
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from thinwire.coordinator.server import _listening, _url
from thinwire.coordinator.settings import ServeSettings
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.places import ADDRESS_FILE, OPERATOR_TOKEN
from thinwire.protocol.settings import RunSettings

from .conftest import Service, interrupt, until


def test_it_says_where_it_is_and_how_to_go_on(service: Service) -> None:
    said = service.coordinator.log.read_text()
    address = json.loads((service.data_dir / ADDRESS_FILE).read_text())
    for words in (address["url"], "thinwire client invite", "thinwire-client join", "thinwire run start"):
        assert words in said
    assert address["pid"] == service.coordinator.process.pid
    assert stat.S_IMODE((service.data_dir / OPERATOR_TOKEN).stat().st_mode) == 0o600
    assert (service.data_dir / OPERATOR_TOKEN).read_text().strip() not in said


def test_responses_carry_no_header_that_nobody_needs(service: Service) -> None:
    response = httpx.get(f"{service.url}/healthz", trust_env=False)
    assert response.status_code == 200
    assert set(response.headers) == {"content-length"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_although_a_client_and_an_operator_wait(service: Service, digits_model: Path, number: int) -> None:
    run = service.start_run(digits_model, RunSettings(name="waits", cohort=2, rounds=1)).id
    client = service.join_digits(0, 2, "--forever")
    until(lambda: "thinwire_parked_clients 1.0" in service.operator.text("/metrics", "text/plain"), service.children)
    watcher, assistant = service.connect(), ThreadPoolExecutor(1)
    events = watcher.events(run)
    assert next(events).kind == "run"
    rest = assistant.submit(list, events)
    assert interrupt(service.coordinator, number) == Exit.INTERRUPTED
    rest.exception(timeout=30)  # the stream has ended, one way or the other
    service.children.forget(service.coordinator)
    watcher.close()
    assistant.shutdown()
    assert client.process.poll() is None, "a client waits for its coordinator to come back"
    log = service.coordinator.log.read_text()
    assert "Traceback" not in log
    assert "ancel" not in log, "no request had to be cut off"
    assert not (service.data_dir / ADDRESS_FILE).exists()


@pytest.mark.parametrize(("host", "told"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")])  # noqa: S104
def test_where_it_listens_at_all_addresses_programs_of_the_machine_ask_the_loopback(
    tmp_path: Path, host: str, told: str
) -> None:
    """They take the address from the folder, and its name is one that the coordinator takes for its own."""
    settings = ServeSettings(data_dir=tmp_path, host=host, port=0, insecure=True)
    with _listening(settings) as listener:
        assert _url(settings, listener) == f"http://{told}:{listener.getsockname()[1]}"
