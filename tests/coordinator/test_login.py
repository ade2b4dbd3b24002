"""A person at another machine: an invite or a token, kept by `thinwire login`, is what the commands ask with."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from tests.coordinator.served import Served
from thinwire.operator.access import TOKEN_VARIABLE, URL_VARIABLE, kept_logins
from thinwire.operator.cli.app import app
from thinwire.operator.cli.login import INVITE_VARIABLE
from thinwire.protocol.exit_codes import Exit


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who has not logged in anywhere."""
    for name in (URL_VARIABLE, TOKEN_VARIABLE, INVITE_VARIABLE, "THINWIRE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def _thinwire(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(words), env=environment)


@pytest.mark.parametrize(("role", "may_invite"), [("operator", Exit.OK), ("reader", Exit.REFUSED)])
def test_an_invite_for_a_person_is_redeemed_and_kept(
    standing: Served, tmp_path: Path, role: str, may_invite: Exit
) -> None:
    invite = standing.invite(role=role, uses=1)
    done = _thinwire("login", standing.url, "--name", f"{role}-1", **{INVITE_VARIABLE: invite})
    assert done.exit_code == Exit.OK, done.output
    assert f"logged in at {standing.url} as {role}-1 ({role})" in done.output
    kept = kept_logins().path
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert _thinwire("client", "list").exit_code == Exit.OK
    assert _thinwire("client", "invite").exit_code == may_invite
    assert _thinwire("logout").output == f"logged out of {standing.url}\n"
    assert _thinwire("client", "list").exit_code == Exit.USAGE
    assert _thinwire("logout").exit_code == Exit.USAGE


def test_an_invite_for_a_device_is_not_used_up_by_a_person(standing: Served, tmp_path: Path) -> None:
    invite = standing.invite(uses=1)
    (tmp_path / "invite").write_text(f"{invite}\n")
    done = _thinwire("login", standing.url, "--name", "mine", "--invite-file", str(tmp_path / "invite"))
    assert (done.exit_code, kept_logins().all()) == (Exit.REFUSED, [])
    assert f"thinwire-client join {standing.url} --name mine" in done.output
    again = httpx.post(f"{standing.url}/v1/clients", json={"invite": invite, "name": "mine"})
    assert again.status_code == 201


def test_a_token_that_is_there_is_kept_once_it_is_good(standing: Served, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 22)
    done = _thinwire("login", standing.url, "--token-file", str(tmp_path / "token"))
    assert (done.exit_code, kept_logins().all()) == (Exit.REFUSED, [])
    done = _thinwire("login", standing.url, "--token-file", str(standing.data_dir / "operator.token"))
    assert done.exit_code == Exit.OK, done.output
    assert _thinwire("client", "invite").exit_code == Exit.OK
    assert _thinwire("login", "localhost:8080").exit_code == Exit.USAGE
