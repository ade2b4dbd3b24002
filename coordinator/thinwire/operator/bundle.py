"""What a bug report needs, in one archive, without what is nobody else's: names, addresses and tokens."""

from __future__ import annotations

import io
import json
import platform
import re
import tarfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import distributions
from typing import Any
from urllib.parse import urlsplit

from thinwire.machine.reach import Finding
from thinwire.protocol.messages import ProblemList
from thinwire.protocol.reasons import ProblemError

from .client import Coordinator

HIDDEN_HOST = "COORDINATOR"


class Redaction:
    """Puts `client-1`, `client-2`, ... in the place of names, in every text; the same one for the same name."""

    def __init__(self, url: str, names: Iterable[str]) -> None:
        self._words = {name: f"client-{number}" for number, name in enumerate(sorted(names), start=1)}
        host = urlsplit(url).hostname
        if host:
            self._words[host] = HIDDEN_HOST
        # The longest first: `ward-1` begins `ward-12`.
        ordered = sorted(self._words, key=len, reverse=True)
        self._found = re.compile("|".join(rf"(?<![\w.-]){re.escape(word)}(?![\w-])" for word in ordered) or r"(?!)")

    def __call__(self, text: str) -> str:
        return self._found.sub(lambda found: self._words[found[0]], text)


def bundle(coordinator: Coordinator, findings: Iterable[Finding]) -> dict[str, str]:
    """File -> content. Of runs: settings, exchanges, sums of bytes; of models and data nothing. Raises: `ProblemError`,
    `UnreachableError`.
    """
    clients = coordinator.clients()
    redact = Redaction(coordinator.url, (client.client for client in clients))
    files: dict[str, Any] = {
        "versions.json": {
            "python": platform.python_version(), "system": platform.platform(),
            "packages": {one.name: one.version for one in distributions()},
        },
        "doctor.json": [asdict(finding) for finding in findings],
        "clients.json": [client.model_dump(mode="json") for client in clients],
        "invites.json": [invite.model_dump(mode="json", exclude={"invite"}) for invite in coordinator.invites()],
        "problems.json": _problems(coordinator),
    }  # fmt: skip
    for run in coordinator.runs():
        files[f"runs/{run.id}.json"] = {
            "run": run.model_dump(mode="json"),
            "exchanges": [one.model_dump(mode="json") for one in coordinator.metrics(run.id)],
            "ledger": coordinator.ledger(run.id, "kind").model_dump(mode="json")["rows"],
        }
    made = {name: redact(json.dumps(content, indent=1)) for name, content in files.items()}
    return made | {"metrics.txt": redact(coordinator.text("/metrics", "text/plain"))}


def archive(files: Mapping[str, str], now: float | None = None) -> bytes:
    """A tar file, gzipped. `now`: Unix seconds."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            data = content.encode()
            entry = tarfile.TarInfo(f"thinwire-bundle/{name}")
            entry.size, entry.mtime = len(data), int(time.time() if now is None else now)
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _problems(coordinator: Coordinator) -> Any:
    try:
        return coordinator.ask("GET", "/v1/problems", ProblemList).model_dump(mode="json")["problems"]
    except ProblemError as error:  # an older coordinator
        return error.reason
