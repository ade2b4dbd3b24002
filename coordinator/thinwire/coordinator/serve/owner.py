"""The token of the data folder: whoever has it may do everything."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Final

import structlog

from thinwire.coordinator.objects.secret_files import fresh_secret, operator_token, write_token
from thinwire.coordinator.records.secrets import Secrets
from thinwire.coordinator.signals.signals import Signals
from thinwire.coordinator.wire.identity import hash_of
from thinwire.protocol.messages import OperatorToken

OPERATOR: Final = "operator"
"""The item of the topic `access`, and the name of the secret, of this token."""
_log = structlog.get_logger("thinwire.coordinator")


class Owner:
    """`load` first. `shared`: other processes may replace the token, too."""

    def __init__(self, stored: Secrets, signals: Signals, data_dir: Path, *, shared: bool = False) -> None:
        self._secrets = stored
        self._signals = signals
        self._data_dir = data_dir
        self._shared = shared
        self._hash = b""

    async def load(self) -> None:
        """The folder's token is the owner's, unless another process was first: then its own is. Raises:
        `storage-failed`, `storage-full`, OSError.
        """
        stored = await self._secrets.get(OPERATOR)
        if self._shared and stored is not None:
            self._hash = stored
            return
        self._hash = hash_of(operator_token(self._data_dir))
        if stored != self._hash:
            await self._secrets.put(OPERATOR, self._hash)

    async def look_up(self) -> None:
        """The token as it is stored now. Raises: `storage-failed`."""
        self._hash = await self._secrets.get(OPERATOR) or self._hash

    def is_owner(self, token_hash: bytes) -> bool:
        """Whether it is the hash of the data folder's token."""
        return hmac.compare_digest(token_hash, self._hash)

    async def rotate(self) -> OperatorToken:
        """Another token in the data folder; the one before is worth nothing from now on. Raises: OSError,
        `storage-failed`, `storage-full`.
        """
        token = fresh_secret()
        await self._secrets.put(OPERATOR, hash_of(token))
        try:
            write_token(self._data_dir, token)
        except OSError:
            await self._secrets.put(OPERATOR, self._hash)
            raise
        _log.info("operator's token replaced")
        self._hash = hash_of(token)
        self._signals.publish("access", OPERATOR)
        return OperatorToken(token=token)
