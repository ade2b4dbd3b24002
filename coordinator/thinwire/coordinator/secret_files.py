"""Files that only their owner can read: the operator's token, invites."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from thinwire.protocol.places import OPERATOR_TOKEN

_TOKEN_BYTES: Final = 16


def fresh_secret() -> str:
    """128 random bits, as text."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def write_secret(path: Path, text: str) -> None:
    """Replaces the file in one step; it is there after a power cut, for its owner alone. Raises: OSError."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def operator_token(data_dir: Path) -> str:
    """The operator's token, made at the first start; its file is closed to all others. Raises: OSError."""
    path = data_dir / OPERATOR_TOKEN
    if path.exists():
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
        if token := path.read_text().strip():
            return token
    token = fresh_secret()
    write_secret(path, token)
    return token
