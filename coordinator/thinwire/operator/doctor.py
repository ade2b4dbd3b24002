"""What could be wrong between a person's command and the coordinator, looked at one by one: a sentence and a cure."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Final

import httpx

from thinwire.machine.quantities import in_bytes
from thinwire.machine.reach import PATIENCE_S, Finding, State, examine_clock, examine_tls, reach, wrong
from thinwire.protocol.encoding import JSON, decode_message
from thinwire.protocol.messages import Problem
from thinwire.protocol.places import ADDRESS_FILE, OPERATOR_TOKEN
from thinwire.protocol.reasons import ProblemError

from .doctor_proxies import examine_uploads
from .transport import EVENTS, options

LEAST_FREE_BYTES: Final = 1 << 30
_OF_THE_MACHINE: Final = ("storage", "disk", "clock", "version")
DATABASE: Final = "thinwire.db"


def examine_coordinator(url: str, token: str | None, ca_file: Path | None) -> Iterator[Finding]:
    """From the name to the events; ends at the first thing that nothing behind it can work without."""
    parts = httpx.URL(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    where, given = options(url, token, ca_file)
    through = where != url
    if through:
        yield Finding("proxy", "warning", f"asked {where.removeprefix(url).strip()}", "NO_PROXY=HOST leaves it out")
    else:
        found = reach(parts.host, port)
        yield found
        if found.state == "wrong":
            return
        if parts.scheme == "https":
            found = examine_tls(parts.host, port, ca_file)
            yield found
            if found.state == "wrong":
                return
    with httpx.Client(**{**given, "timeout": PATIENCE_S}) as http:
        found, response = _ready(http, where)
        yield found
        if found.state == "wrong" or response is None:
            return
        yield from examine_clock(response.headers.get("date"), time.time())
        try:
            found = _token(http, token)
            yield found
            if found.state == "ok":
                yield _version(http)
                yield from _what_it_says(http)
                yield from _buffering(http)
                if not through:
                    tls = parts.scheme == "https"
                    yield from examine_uploads(parts.host, port, ca_file, tls=tls, patience_s=PATIENCE_S)
        except httpx.HTTPError as error:
            yield wrong("coordinator", f"{where} breaks off: {error}", "try again; look at what stands between")


def _ready(http: httpx.Client, where: str) -> tuple[Finding, httpx.Response | None]:
    try:
        response = http.get("/readyz")
    except httpx.HTTPError as error:
        cure = "is it http or https? does a proxy stand before it?"
        return wrong("coordinator", f"{where} breaks off: {error}", cure), None
    if response.status_code == 200 and not response.content:
        return Finding("coordinator", "ok", "takes requests"), response
    if response.is_redirect:
        said = f"{where} redirects to {response.headers.get('location')}"
        return wrong("coordinator", said, "give that address: clients follow no redirects"), None
    problem = _problem(response)
    if problem is not None:
        return wrong("coordinator", f"{problem.reason}: {problem.detail}", "its log says what it waits for"), None
    if response.status_code in (502, 503, 504):
        said = f"a proxy answers {response.status_code} in its place"
        return wrong("coordinator", said, "start the coordinator behind it, at the port it asks"), None
    said = f"what answers is no coordinator (status {response.status_code})"
    return wrong("coordinator", said, "a portal or another service: log in there, or correct the address"), None


def _token(http: httpx.Client, token: str | None) -> Finding:
    response = http.get("/v1/clients")
    if response.status_code == 200:
        return Finding("token", "ok", "good for reading")
    problem = _problem(response)
    reason = "unknown" if problem is None else problem.reason
    cures = {
        "token-missing": "thinwire login URL, --token-file or THINWIRE_TOKEN",
        "token-invalid": "it was replaced or revoked: log in again with a new invite",
        "not-allowed": "it is a device's: log in with an invite of role operator or reader",
    }
    said = "none is given" if token is None else f"{reason}: {'' if problem is None else problem.detail}"
    return wrong("token", said, cures.get(reason, "see the coordinator's log"))


def _version(http: httpx.Client) -> Finding:
    mine, text = version("thinwire"), http.get("/metrics", headers={"accept": "*/*"}).text
    theirs = text.partition('thinwire_build_info{version="')[2].partition('"')[0] or "an older one"
    if theirs != mine:
        return Finding("version", "warning", f"{theirs} there, {mine} here", "install the same on both sides")
    return Finding("version", "ok", mine)


def _what_it_says(http: httpx.Client) -> Iterator[Finding]:
    """What the coordinator has found wrong with its machine, its database and its store, which nobody else sees."""
    response = http.get("/v1/problems")
    if response.status_code != 200:
        return
    for one in response.json()["problems"]:
        if one["kind"] in _OF_THE_MACHINE:
            state: State = "wrong" if one["severity"] == "error" else "warning"
            yield Finding(one["kind"], state, f"it says: {one['said']}", one["cure"])


def _buffering(http: httpx.Client) -> Iterator[Finding]:
    """The first event of a run comes at once, unless something on the way waits for more."""
    runs = http.get("/v1/runs").json()["runs"]
    going = next((run for run in runs if run["state"] != "finished"), None)
    if going is None:
        return
    try:
        with http.stream("GET", f"/v1/runs/{going['id']}/events", headers={"accept": EVENTS}) as response:
            next(response.iter_bytes())
    except (httpx.HTTPError, StopIteration):
        cure = "turn its buffering off, as deploy/proxies/nginx.conf does"
        yield wrong("events", f"a proxy holds events back for more than {PATIENCE_S:.0f} s", cure)
    else:
        yield Finding("events", "ok", "come as they happen")


def examine_folder(data_dir: Path, least_free: int = LEAST_FREE_BYTES) -> Iterator[Finding]:
    """A coordinator's folder on this machine. `least_free`: bytes of the disk."""
    for path, most in ((data_dir, 0o700), (data_dir / OPERATOR_TOKEN, 0o600)):
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else most
        if mode & ~most:
            yield wrong("folder", f"others may read {path} (mode {mode:o})", f"chmod {most:o} {path}")
    if not os.access(data_dir, os.W_OK | os.X_OK):
        yield wrong("folder", f"{data_dir} cannot be written", "give it to the user that serves")
    free = shutil.disk_usage(data_dir).free
    if free < least_free:
        cure = "make room, or give --max-disk-bytes so that uploads end before the disk does"
        yield wrong("disk", f"{in_bytes(free)} are free", cure)
    else:
        yield Finding("disk", "ok", f"{in_bytes(free)} are free")
    if (data_dir / DATABASE).exists():
        yield _database(data_dir / DATABASE)
    yield from _process(data_dir)


def _database(path: Path) -> Finding:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            said = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        return wrong("database", f"{path}: {said}", "stop the coordinator and restore a backup: thinwire restore")
    return Finding("database", "ok", f"{in_bytes(path.stat().st_size)}, whole")


def _process(data_dir: Path) -> Iterator[Finding]:
    try:
        process = int(json.loads((data_dir / ADDRESS_FILE).read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return
    try:
        os.kill(process, 0)
    except PermissionError:
        pass  # another user's, but there
    except OSError:
        said = f"{ADDRESS_FILE} names the process {process}, which is gone: it was killed"
        yield wrong("process", said, f"start it again: thinwire serve --data-dir {data_dir}")
        return
    yield Finding("process", "ok", f"process {process} serves the folder")


def _problem(response: httpx.Response) -> Problem | None:
    try:
        return decode_message(Problem, response.content, JSON, max_bytes=1 << 16)
    except ProblemError:
        return None
