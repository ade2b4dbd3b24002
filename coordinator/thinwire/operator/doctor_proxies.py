"""What a proxy in front of a coordinator does with large requests, by its answer to the beginning of one."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from thinwire.machine.reach import Finding, wrong

BODY_BYTES: Final = 1 << 26
_PATH: Final = "/v1/models"
_BEGUN_BYTES: Final = 1 << 13
"""What is sent of it: Caddy passes a head on with the first bytes behind it."""


def examine_uploads(host: str, port: int, ca_file: Path | None, *, tls: bool, patience_s: float) -> Iterator[Finding]:
    """One request without a token is begun and the rest of it never sent: a coordinator refuses it at once. Who answers
    in its place has a limit of its own; who says nothing waits for the whole body before the coordinator hears of it.
    """
    connection = (
        http.client.HTTPSConnection(host, port, timeout=patience_s, context=ssl.create_default_context(cafile=ca_file))
        if tls
        else http.client.HTTPConnection(host, port, timeout=patience_s)
    )
    try:
        connection.putrequest("POST", _PATH, skip_accept_encoding=True)
        connection.putheader("content-type", "application/octet-stream")
        connection.putheader("content-length", str(BODY_BYTES))
        connection.endheaders()
        with contextlib.suppress(OSError):  # who refuses at once may hang up, too
            connection.send(bytes(_BEGUN_BYTES))
        response = _answer(connection)
        if _is_ours(response.read(1 << 16)):
            yield Finding("uploads", "ok", "reach the coordinator as they come")
        elif response.status == 413:
            said = f"a proxy takes no body of {BODY_BYTES >> 20} MiB: clients send theirs in small pieces"
            yield Finding("uploads", "warning", said, "raise its limit: client_max_body_size 0 in nginx")
        else:
            yield Finding("uploads", "warning", f"a proxy answers {response.status} to them", "look at its log")
    except TimeoutError:
        cure = "turn that off: proxy_request_buffering off in nginx, as deploy/proxies/nginx.conf does"
        yield wrong("uploads", "a proxy holds them back until it has all of one: what a cut link brought is lost", cure)
    except (OSError, http.client.HTTPException) as error:
        yield Finding("uploads", "warning", f"one that was begun broke off: {error}", "look at what stands between")
    finally:
        connection.close()


def _answer(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """Caddy has the coordinator's answer at once, and hands it over when the body goes on or ends: so it is ended."""
    try:
        return connection.getresponse()
    except TimeoutError:
        # Of the socket below TLS, which goes on hearing.
        socket.socket.shutdown(connection.sock, socket.SHUT_WR)
        response = http.client.HTTPResponse(connection.sock, method="POST")
        try:
            response.begin()
        except (OSError, http.client.HTTPException):
            raise TimeoutError from None
        return response


def _is_ours(body: bytes) -> bool:
    """Whether a coordinator said this."""
    try:
        return "reason" in json.loads(body)
    except (ValueError, TypeError):
        return False
