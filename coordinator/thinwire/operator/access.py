"""Where the coordinator is and by which token it is asked: of the command line, the environment, a folder on this
machine, or the logins that are kept for the person.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from thinwire.machine.files import write_atomic
from thinwire.protocol.fields import Role
from thinwire.protocol.places import ADDRESS_FILE, OPERATOR_TOKEN, on_this_machine

URL_VARIABLE: Final = "THINWIRE_URL"
TOKEN_VARIABLE: Final = "THINWIRE_TOKEN"  # noqa: S105 (a variable's name)


class NoAddressError(Exception):
    """Where the coordinator is, or the token for it, has not been said, or cannot be."""


class Login(BaseModel):
    """A token that is kept. `name`, `role`: as whom it is known there; None of a token that came in a file.
    `ca_file`: certificates to trust there instead of the system's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    token: str
    name: str | None = None
    role: Role | None = None
    ca_file: Path | None = None


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    logins: list[Login] = []
    """The one that was used for logging in last comes first: commands without an address mean it."""


@dataclass(frozen=True, slots=True)
class Logins:
    """What is kept in a file of mode 0600 in the person's folder of settings. Everything raises `OSError`, and
    `NoAddressError` where the file holds something else.
    """

    path: Path

    def all(self) -> list[Login]:
        """The newest first."""
        try:
            return _Kept.model_validate_json(self.path.read_bytes()).logins
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []  # a service's account has no home
        except ValidationError as error:
            detail = error.errors(include_input=False)[0]["msg"]
            raise NoAddressError(f"{self.path} is damaged ({detail}): remove it, and log in again") from None

    def of(self, url: str) -> Login | None:
        """The login at this address."""
        return next((login for login in self.all() if login.url == url), None)

    def keep(self, login: Login) -> None:
        """In the place of the one at the same address."""
        with self._alone():
            self._write([login, *(one for one in self.all() if one.url != login.url)])

    def forget(self, url: str) -> bool:
        """Whether there was one at this address."""
        with self._alone():
            before = self.all()
            left = [one for one in before if one.url != url]
            if len(left) < len(before):
                self._write(left)
            return len(left) < len(before)

    def _write(self, logins: list[Login]) -> None:
        write_atomic(self.path, _Kept(logins=logins).model_dump_json(indent=2, exclude_none=True).encode(), fsync=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two commands at once would each leave the other's login out."""
        if not self.path.is_absolute():
            raise NoAddressError("this account has no home to keep a login in: set XDG_CONFIG_HOME to a folder")
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def kept_logins() -> Logins:
    """Of the person whose process this is: `$XDG_CONFIG_HOME/thinwire/logins.json`, `~/.config` where that is unset."""
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Logins(Path(folder) / "thinwire" / "logins.json")


def find_login(
    url: str | None, token_file: Path | None, data_dir: Path, ca_file: Path | None, logins: Logins
) -> tuple[str, str | None, Path | None]:
    """Address, token and certificates. Address: given, of the environment, of the coordinator that serves this folder,
    of the newest login. Token: of the file, of the environment, of the login at this address, of the folder, which is
    sent to its own coordinator or to this machine and nowhere else; None where there is none, which is enough on the
    coordinator's own machine. Raises: `NoAddressError`, `OSError`.
    """
    found = url or os.environ.get(URL_VARIABLE) or served_at(data_dir)
    if found is None:
        known = logins.all()
        if not known:
            raise NoAddressError(
                f"no coordinator is known: log in (thinwire login URL), give --url, set {URL_VARIABLE}, or name its "
                "folder on this machine by --data-dir"
            )
        found = known[0].url
    found = found.rstrip("/")
    login = logins.of(found)
    if ca_file is None and login is not None:
        ca_file = login.ca_file
    if token_file is not None:
        return found, read_token(token_file), ca_file
    if TOKEN_VARIABLE in os.environ:
        return found, os.environ[TOKEN_VARIABLE].strip(), ca_file
    if login is not None:
        return found, login.token, ca_file
    is_its_own = found == served_at(data_dir) or on_this_machine(urlsplit(found).hostname or "")
    return found, find_token(data_dir) if is_its_own else None, ca_file


def served_at(data_dir: Path) -> str | None:
    """Where the coordinator listens that serves this folder now."""
    try:
        return str(json.loads((data_dir / ADDRESS_FILE).read_text())["url"])
    except (OSError, ValueError, KeyError):
        return None


def find_token(data_dir: Path) -> str | None:
    """Of the coordinator's folder, where this process may read it."""
    try:
        return (data_dir / OPERATOR_TOKEN).read_text().strip()
    except OSError:
        return None


def read_token(path: Path) -> str:
    """Of a file that holds nothing else. Raises: `NoAddressError`, `OSError`."""
    token = path.read_text(errors="replace").strip()
    if not token or any(not 33 <= ord(letter) < 127 for letter in token):
        raise NoAddressError(f"{path} holds no token: one line of letters and digits is expected")
    return token
