"""Telling a webhook: a message signed as Standard Webhooks has it (https://www.standardwebhooks.com), sent once."""

from __future__ import annotations

import base64
import hashlib
import hmac
from importlib.metadata import version
from typing import Final

import httpx

from thinwire.protocol.encoding import JSON
from thinwire.protocol.places import find_proxy

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
PATIENCE_S: Final = 10.0
"""For all of one attempt: a receiver that has more to do takes the message first and works later."""
_LONGEST: Final = 300
_AGENT: Final = f"thinwire/{version('thinwire')}"


def secret_text(secret: bytes) -> str:
    """The secret as it is shown, and as the libraries of Standard Webhooks take it."""
    return PREFIX + base64.b64encode(secret).decode()


def signature(secret: bytes, message: str, at: int, body: bytes) -> str:
    """Version 1: HMAC-SHA256 over `MESSAGE.AT.BODY`, in base64. `message`: its id; `at`: Unix seconds."""
    signed = b".".join((message.encode(), str(at).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


class Posting:
    """Connections to whoever is told. A proxy of the environment is used, but for this machine. No redirect is followed
    and nothing of an answer is read but its status: what an operator has named is told, and nobody else.
    """

    def __init__(self) -> None:
        self._clients: dict[str | None, httpx.AsyncClient] = {}

    async def post(self, url: str, secret: bytes, message: str, at: float, body: bytes) -> str | None:
        """Why the message was not taken; None where it was. `at`: Unix seconds."""
        headers = {
            "content-type": JSON, "user-agent": _AGENT, "webhook-id": message, "webhook-timestamp": str(int(at)),
            "webhook-signature": signature(secret, message, int(at), body),
        }  # fmt: skip
        try:
            http = self._client(url)
            async with http.stream("POST", url, content=body, headers=headers) as response:
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return (str(error) or type(error).__name__)[:_LONGEST]
        return None if 200 <= status < 300 else f"it answered {status}"

    def _client(self, url: str) -> httpx.AsyncClient:
        parts = httpx.URL(url)
        proxy = find_proxy(parts.scheme, parts.host)
        if proxy not in self._clients:
            self._clients[proxy] = httpx.AsyncClient(
                proxy=proxy, timeout=PATIENCE_S, follow_redirects=False, trust_env=False
            )
        return self._clients[proxy]

    async def close(self) -> None:
        """No connection is left."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()
