"""What answers in a coordinator's place, with a fault in it: for those who look for faults."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

Answer = tuple[int, bytes, Mapping[str, str]]


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """One of its own for `localhost`, good for two days: its file, and what a server shows it with."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    own, key = folder / "own.pem", folder / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(own)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    return own, context


def refused(status: int, reason: str) -> Answer:
    """What a coordinator answers that refuses for this reason."""
    return (
        status,
        json.dumps({"reason": reason, "detail": "why", "retry": False}).encode(),
        {"content-type": "application/json"},
    )


@contextmanager
def answering(answers: Mapping[str, Answer], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """By path; what has no answer is held until the end."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in answers:
                over.wait(60)
                return
            status, body, headers = answers[self.path]
            self.send_response_only(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 (named by the library)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # whoever does not trust the certificate hangs up

    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
        finally:
            over.set()
            server.shutdown()
