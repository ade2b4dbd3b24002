"""Secrets as they are made, and the operator's token: a file of the data folder that only its owner can read."""

from __future__ import annotations

import base64
import hashlib
import secrets
import stat
from pathlib import Path
from typing import Final

from thinwire.machine.files import write_atomic
from thinwire.protocol.places import OPERATOR_TOKEN

_TOKEN_BYTES: Final = 16


def fresh_secret() -> str:
    """128 random bits, as text."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def token_of(nonce: bytes | None, name: str, asked_with: bytes) -> str:
    """128 bits that only who asked knows, as text: of a nonce always the same, so that a request which is doubled on
    the way does not take back what the first one gave. Nothing is kept for it.
    """
    if nonce is None:
        return fresh_secret()
    made = hashlib.sha256(b"token" + nonce + asked_with + name.encode()).digest()
    return base64.urlsafe_b64encode(made[:_TOKEN_BYTES]).rstrip(b"=").decode()


def operator_token(data_dir: Path) -> str:
    """The operator's token, made at the first start; its file is closed to all others. Raises: OSError."""
    path = data_dir / OPERATOR_TOKEN
    if path.exists():
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
        if token := path.read_text().strip():
            return token
    token = fresh_secret()
    write_token(data_dir, token)
    return token


def write_token(data_dir: Path, token: str) -> None:
    """Replaces the operator's token in one step; it outlives a power cut, for its owner alone. Raises: OSError."""
    write_atomic(data_dir / OPERATOR_TOKEN, f"{token}\n".encode(), fsync=True)
