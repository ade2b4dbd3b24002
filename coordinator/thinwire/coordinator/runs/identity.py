"""The names of tasks, runs and uploads."""

from __future__ import annotations

import base64
import hashlib
import secrets
import string
from typing import Final

TASK_ID_LENGTH: Final = 10
_ALPHABET: Final = string.ascii_lowercase + string.digits


def task_id(run: str, exchange: int, offer: int, client: str, lineage: str | None = None) -> str:
    """The same task has the same id before and after a crash, so a staged answer stays usable; but not before and after
    the run goes on from a backup, which gives it another `lineage`.
    """
    apart = "" if lineage is None else f"{lineage}/"
    digest = hashlib.sha256(f"{apart}{run}/{exchange}/{offer}/{client}".encode()).digest()
    return base64.b32encode(digest).decode().lower()[:TASK_ID_LENGTH]


def fresh_id(length: int = 8) -> str:
    """A random id of so many letters and digits."""
    number, letters = secrets.randbelow(len(_ALPHABET) ** length), []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(letters)
