"""What the intake is compared with: an endpoint that streams bodies to disk with SHA-256, and nothing else.

`python -m benchmarks.intake.bare FOLDER` serves at a free port and writes its URL to FOLDER/url.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn


def endpoint(folder: Path) -> Any:
    """The ASGI application: any body becomes a file; the answer is its digest."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        digest = hashlib.sha256()
        path = folder / secrets.token_hex(8)
        with path.open("wb", buffering=0) as file:
            more = True
            while more:
                message = await receive()
                body = message.get("body", b"")
                digest.update(body)
                file.write(body)
                more = message.get("more_body", False)
        path.unlink()
        text = digest.hexdigest().encode()
        headers = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    return app


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    beside = folder / "url.new"
    beside.write_text(f"http://127.0.0.1:{listener.getsockname()[1]}")
    beside.replace(folder / "url")
    config = uvicorn.Config(endpoint(folder), lifespan="off", log_config=None, access_log=False, timeout_keep_alive=660)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
