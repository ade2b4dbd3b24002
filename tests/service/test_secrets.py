"""No secret is anywhere but where it belongs: not in logs, command lines, tracebacks, the ledger, the database."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import Service, interrupt, until
from thinwire.edge_client.memory.folder import Folder
from thinwire.protocol.places import OPERATOR_TOKEN
from thinwire.protocol.settings import RunSettings


def _command_lines() -> bytes:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:  # it has ended
            continue
    return b"\n".join(found)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A coordinator that says all it has to say."""
    with Service(tmp_path, "--log-level", "debug") as made:
        made.serve()
        yield made


@pytest.mark.long
def test_secrets_stay_where_they_belong(service: Service, digits_model: Path) -> None:
    run = service.start_run(digits_model, RunSettings(name="secret", cohort=2, rounds=2)).id
    invites = [service.invite(3, group="others") for _ in range(2)]
    secrets = [*invites, (service.data_dir / OPERATOR_TOKEN).read_text().strip()]
    with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as http:
        tokens = []
        for name in ("one", "two"):
            enrolled = http.post("/v1/clients", json={"invite": invites[0], "name": name}).json()
            tokens.append(enrolled["token"])
            rotated = http.post(f"/v1/clients/{name}/token", headers={"authorization": f"Bearer {enrolled['token']}"})
            tokens.append(rotated.json()["token"])
        secrets += tokens
        # Everything that can go wrong, with a secret in every place where somebody may put one.
        for secret in secrets:
            bearer = {"authorization": f"Bearer {secret}", "tus-resumable": "1.0.0"}
            for headers in (bearer, {**bearer, "content-type": "application/msgpack"}):
                for path in (
                    "clients",
                    "invites",
                    "registrations",
                    "runs",
                    "models",
                    "uploads",
                    "tasks/aaaaaaaa/answer",
                ):
                    http.post(f"/v1/{path}", content=b"\xc1{", headers=headers)
                    http.post(f"/v1/{path}", json={"invite": secret, "name": "x y"}, headers=bearer)
            http.get("/v1/clients", headers={"authorization": f"Bearer {secret}x"})
            http.get("/v1/runs/none", headers={**bearer, "range": secret, "accept": "image/png"})
            http.patch("/v1/uploads/abcdefgh", content=b"x", headers=bearer)
        assert http.delete("/v1/clients/one", headers={"authorization": f"Bearer {secrets[2]}"}).status_code == 204
    for index in range(2):
        service.join_digits(index, 2)
    lines = [_command_lines()]
    until(lambda: lines.append(_command_lines()) or service.view(run).state == "finished", service.children)
    until(service.clients_have_ended, service.children)
    ledger = "".join(str(row) for row in service.ledger(run).rows)
    interrupt(service.coordinator)
    service.children.forget(service.coordinator)

    for index in range(2):
        folder = service.folder / f"client-{index:02d}"
        secrets.append((service.folder / f"client-{index:02d}.invite").read_text().strip())
        opened = Folder(folder)
        credentials = opened.credentials()
        opened.close()
        assert credentials is not None
        secrets.append(credentials.token)
        assert stat.S_IMODE((folder / "credentials").stat().st_mode) == 0o600
    assert len(set(secrets)) == len(secrets)
    at_home = {OPERATOR_TOKEN, "credentials", *(f"client-{index:02d}.invite" for index in range(2))}
    files = [path for path in service.folder.rglob("*") if path.is_file() and path.name not in at_home]
    log = service.coordinator.log.read_text()
    assert "Started server process" in log, "the libraries say what they do"
    assert "Traceback" not in log
    places = {str(path.relative_to(service.folder)): path.read_bytes() for path in files}
    places |= {"command lines": b"\n".join(lines), "the ledger": ledger.encode()}
    assert any(place.startswith("logs") for place in places)
    for place, content in places.items():
        for secret in secrets:
            assert secret.encode() not in content, place
