"""Where an operator's command finds the coordinator and its token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thinwire.operator.access import (
    TOKEN_VARIABLE,
    URL_VARIABLE,
    Login,
    Logins,
    NoAddressError,
    find_login,
    kept_logins,
)
from thinwire.protocol.places import ADDRESS_FILE, OPERATOR_TOKEN


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who has not logged in anywhere."""
    for name in (URL_VARIABLE, TOKEN_VARIABLE, "THINWIRE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_the_nearest_word_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given, then of the environment, then of the folder, then of a login."""
    logins = kept_logins()

    def found(url: str | None = None, token_file: Path | None = None) -> tuple[str, str | None]:
        return find_login(url, token_file, tmp_path, None, logins)[:2]

    with pytest.raises(NoAddressError, match=URL_VARIABLE):
        found()
    logins.keep(Login(url="http://first", token="of-first"))  # noqa: S106
    logins.keep(Login(url="http://second", token="of-second", ca_file=tmp_path / "ca.pem"))  # noqa: S106
    assert found() == ("http://second", "of-second")
    assert find_login(None, None, tmp_path, None, logins)[2] == tmp_path / "ca.pem"
    assert found("http://first/") == ("http://first", "of-first")
    assert found("http://nowhere") == ("http://nowhere", None)
    (tmp_path / ADDRESS_FILE).write_text(json.dumps({"url": "http://of-the-folder", "pid": 1}))
    (tmp_path / OPERATOR_TOKEN).write_text("of-the-folder\n")
    assert found() == ("http://of-the-folder", "of-the-folder")
    assert found("http://second") == ("http://second", "of-second")
    assert found("http://127.0.0.1:8080") == ("http://127.0.0.1:8080", "of-the-folder")
    assert found("http://elsewhere") == ("http://elsewhere", None)
    monkeypatch.setenv(URL_VARIABLE, "http://of-the-environment/")
    monkeypatch.setenv(TOKEN_VARIABLE, "of-the-environment")
    assert found() == ("http://of-the-environment", "of-the-environment")
    (tmp_path / "token").write_text("of-the-file\n")
    assert found("http://given", tmp_path / "token") == ("http://given", "of-the-file")
    (tmp_path / "token").write_text("no token\n")
    with pytest.raises(NoAddressError, match="holds no token"):
        found("http://given", tmp_path / "token")


def test_a_damaged_file_of_logins_is_named(tmp_path: Path) -> None:
    logins = Logins(tmp_path / "logins.json")
    assert logins.all() == []
    assert not logins.forget("http://first")
    logins.path.write_text('{"logins": [{"url"')
    with pytest.raises(NoAddressError, match=r"logins\.json is damaged"):
        logins.all()
