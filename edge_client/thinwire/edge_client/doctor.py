"""What could be wrong with this device and its way to the coordinator, looked at one by one: a sentence and a cure.

Costs a few hundred bytes of the link, and changes nothing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

from thinwire.machine.quantities import in_bytes
from thinwire.machine.reach import PATIENCE_S, Finding, examine_clock, examine_tls, reach, wrong
from thinwire.protocol.reasons import ProblemError

from .link.proxies import BadProxyError, proxy_for
from .link.replies import BadPeerError, Reply, StrangerError, check, read_reply
from .link.sockets import CountingBackend, UntrustedError
from .link.transfer import UNHEARD, Patience, Transfer
from .memory.folder import Credentials, is_in_use
from .memory.records import TornRecordError, read_record

LEAST_FREE_BYTES: Final = 1 << 28
_LARGEST_ANSWER: Final = 1 << 16
_NO_PLAN: Final = "/v1/plans/" + 64 * "0"
"""What there is never: a client is told so, and whoever is none is told that."""


def examine(folder: Path, url: str | None, ca_file: Path | None) -> Iterator[Finding]:
    """Everything. `url`: of the coordinator; None: of this client's own."""
    yield from examine_folder(folder)
    found, credentials = examine_credentials(folder, url)
    yield from found
    where = url or (None if credentials is None else credentials.coordinator)
    if where is not None:
        is_its_own = credentials is not None and credentials.coordinator == where.rstrip("/")
        yield from examine_way(where, credentials.token if credentials is not None and is_its_own else None, ca_file)


def examine_folder(folder: Path, least_free: int = LEAST_FREE_BYTES) -> Iterator[Finding]:
    """This client's folder, and what it needs to train. `least_free`: bytes of the disk."""
    if importlib.util.find_spec("torch") is None:
        yield wrong("torch", "PyTorch is not installed", "pip install 'thinwire[client]', or docs/install.md")
    if not folder.is_dir():
        yield Finding("folder", "ok", f"{folder} is not there yet: this client has not joined")
        return
    for path, most in ((folder, 0o700), (folder / "credentials", 0o600), (folder / "asking", 0o600)):
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else most
        if mode & ~most & 0o077:
            yield wrong("folder", f"others may read {path} (mode {mode:o})", f"chmod {most:o} {path}")
    if not os.access(folder, os.W_OK | os.X_OK):
        yield wrong("folder", f"{folder} cannot be written", "give it to the user that runs the client")
    free = shutil.disk_usage(folder).free
    if free < least_free:
        yield wrong("disk", f"{in_bytes(free)} are free", "make room: answers are stored before they are sent")
    else:
        yield Finding("disk", "ok", f"{in_bytes(free)} are free")
    yield Finding("process", "ok", "a client works in the folder" if is_in_use(folder) else "no client works in it now")


def examine_credentials(folder: Path, url: str | None) -> tuple[list[Finding], Credentials | None]:
    """Who this client is, if it is anybody; the file is read, not changed. `url`: where it is to join."""
    try:
        facts = read_record(folder / "credentials").facts
    except FileNotFoundError:
        said = "this client has not enrolled"
        cure = "thinwire-client join URL: with an invite, or without one, which asks to be let in"
        return [Finding("credentials", "ok", said) if url else wrong("credentials", said, cure)], None
    except TornRecordError as error:
        cure = "restore the file; or delete it and enrol under a new name, and let the operator revoke the old one"
        return [wrong("credentials", f"they are damaged: {error}", cure)], None
    found = Credentials(facts["coordinator"], facts["client"], facts["token"])
    findings = [Finding("credentials", "ok", f"{found.client} of {found.coordinator}")]
    if url is not None and url.rstrip("/") != found.coordinator:
        said = f"the folder belongs to a client of {found.coordinator}, not of {url}"
        findings = [wrong("credentials", said, "take another --data-dir; or --moved, if it is that coordinator")]
    return findings, found


def examine_way(url: str, token: str | None, ca_file: Path | None) -> Iterator[Finding]:
    """From the name to the token; ends at the first thing that nothing behind it can work without."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield wrong("address", f"{url} is no address", "write http://HOST:PORT or https://HOST")
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        proxy = proxy_for(parts.scheme, parts.hostname)
        if proxy is not None:
            yield Finding("proxy", "warning", f"asked through {proxy.place}", "NO_PROXY=HOST leaves it out")
        else:
            found = reach(parts.hostname, port)
            yield found
            if found.state == "ok" and parts.scheme == "https":
                found = examine_tls(parts.hostname, port, ca_file)
                yield found
            if found.state == "wrong":
                return
        transfer = Transfer(
            url, CountingBackend(), rng=Random(0), say=lambda _: None,  # noqa: S311
            patience=Patience(PATIENCE_S, 0.0), tls=ssl.create_default_context(cafile=ca_file),
        )  # fmt: skip
    except (BadPeerError, BadProxyError, OSError) as error:
        yield wrong("address", str(error), "look at the address, the proxy's, and --ca-file")
        return
    with closing(transfer):
        yield from _examine_talk(transfer, token)


def _examine_talk(transfer: Transfer, token: str | None) -> Iterator[Finding]:
    try:
        reply = _get(transfer, "/readyz")
        if reply.status != 200 or reply.body:
            said = f"what answers is no coordinator (status {reply.status})"
            yield wrong("coordinator", said, "a portal or another service: log in there, or correct the address")
            return
        yield Finding("coordinator", "ok", "takes requests")
        yield from examine_clock(reply.headers.get("date"), time.time())
        if token is not None:
            transfer.use_token(token)
            yield _token(_get(transfer, _NO_PLAN))
    except (*UNHEARD, UntrustedError) as error:
        said = f"{transfer.address} breaks off: {error or type(error).__name__}"
        yield wrong("coordinator", said, "is it http or https? does a proxy stand before it?")
    except StrangerError as error:
        yield wrong("coordinator", str(error), "a portal, a redirection or a proxy: give the coordinator's own address")
    except (BadPeerError, ProblemError) as error:
        yield wrong("coordinator", str(error), "the coordinator's log says what it waits for")


def _get(transfer: Transfer, path: str) -> Reply:
    with transfer.open("GET", path, {}) as response:
        reply = read_reply(response, _LARGEST_ANSWER)
    if path != _NO_PLAN:
        check(reply)
    return reply


def _token(reply: Reply) -> Finding:
    try:
        check(reply)
    except ProblemError as error:
        if error.reason == "plan-not-found":
            return Finding("token", "ok", "it is one")
        cures = {
            "token-invalid": "it was revoked or replaced: ask the operator for a new invite, and join with it",
            "not-allowed": "it is a person's: enrol this device with an invite of role client",
        }
        return wrong("token", str(error), cures.get(error.reason, "see the coordinator's log"))
    return wrong("token", f"an unknown plan is answered with {reply.status}", "what answers is no coordinator")
