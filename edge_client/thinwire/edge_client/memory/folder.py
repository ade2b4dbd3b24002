"""The client's folder: who it is, and what lies beside that.

    credentials            coordinator, name and token; readable by the owner only
    name                   what it asked to be called where the user gave no name
    enrolment              what an enrolment that has no answer yet is asked for with
    asking                 the invite that it has drawn for itself, while it waits to be let in; as secret
    lock                   held while a process works in this folder
    status.json            what the client does now; see `standing`
    starts                 how many processes have begun to work in it
    link                   what the kernel counted over all connections so far
    day                    what it had counted when the present day began
    plans/DIGEST           plans, as received
    partial/DIGEST         downloads, as far as they have come
    runs/RUN/              what it knows of one run; see `runs`

Everything but `partial` and `status.json` is a record. A run whose files a disk has damaged begins anew; what is left
of them is kept in `damaged`, in case somebody can mend it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from thinwire.edge_client.link.care import Day
from thinwire.machine.files import drop_unfinished

from .records import Record, TornRecordError, read_record, write_record
from .runs import RunMemory

_LOOK_S: Final = 0.05


class FolderInUseError(Exception):
    """Another process works in this folder."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`coordinator`: the address they are for; they are never sent elsewhere. `link`: bytes sent and received before
    they were asked for: what was spent on another coordinator, or as another client, is none of this one's.
    """

    coordinator: str
    client: str
    token: str
    link: tuple[int, int] = (0, 0)


class Folder:
    """The folder of one client, held by one process. `say`: hears of what was damaged.

    Raises: `FolderInUseError`, `OSError`.
    """

    def __init__(self, path: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.path = path
        self.say = say
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _locked(self._lock, fcntl.LOCK_EX):
            os.close(self._lock)
            raise FolderInUseError(f"another client works in {path}") from None
        drop_unfinished(path)
        facts = self._facts("link")
        self._link = (0, 0) if facts is None else (facts["sent"], facts["received"])
        self._runs: dict[str, RunMemory] = {}

    def close(self) -> None:
        os.close(self._lock)

    @property
    def partial(self) -> Path:
        return self.path / "partial"

    def run(self, run: str) -> RunMemory:
        """The memory of this run; the id has been checked by the message it came with."""
        if run not in self._runs:
            folder = self.path / "runs" / run
            try:
                self._runs[run] = RunMemory(folder)
            except TornRecordError as error:
                aside = self.path / "damaged" / run
                self.say(
                    f"the memory of run {run} is damaged ({error}); it begins anew, and what is left is in {aside}"
                )
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True, mode=0o700)
                folder.rename(aside)
                self._runs[run] = RunMemory(folder)
        return self._runs[run]

    def runs(self) -> list[RunMemory]:
        """Of all runs it has taken part in, those used last at the end."""
        folder = self.path / "runs"
        found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns) if folder.is_dir() else []
        return [self.run(path.name) for path in found]

    def name(self) -> str:
        """A name of this client's own choice, kept: an enrolment whose answer was lost is asked for again by it."""
        facts = self._facts("name")
        if facts is None:
            facts = {"name": f"client-{secrets.token_hex(4)}"}
            write_record(self.path / "name", Record(facts))
        return str(facts["name"])

    def nonce(self) -> bytes:
        """Of the enrolment that is under way, kept: asked for again with it, the same answer comes."""
        facts = self._facts("enrolment")
        if facts is None:
            facts = {"nonce": secrets.token_bytes(16)}
            write_record(self.path / "enrolment", Record(facts))
        return bytes(facts["nonce"])

    def own_invite(self, coordinator: str) -> str:
        """An invite of this device's own drawing, kept: whoever begins again waits under the same code. For another
        coordinator it is another one.
        """
        facts = self._facts("asking")
        if facts is None or facts["coordinator"] != coordinator:
            facts = {"coordinator": coordinator, "invite": secrets.token_urlsafe(24)}
            write_record(self.path / "asking", Record(facts))
        return str(facts["invite"])

    def credentials(self) -> Credentials | None:
        """Who this client is, None before the enrolment. A file that others could read is closed to them.

        Raises: `TornRecordError`.
        """
        path = self.path / "credentials"
        try:
            path.chmod(0o600)
            facts = read_record(path).facts
        except FileNotFoundError:
            return None
        sent, received = facts.get("link", (0, 0))
        return Credentials(facts["coordinator"], facts["client"], facts["token"], (sent, received))

    def keep_credentials(self, credentials: Credentials) -> None:
        facts = {
            "coordinator": credentials.coordinator, "client": credentials.client, "token": credentials.token,
            "link": list(credentials.link),
        }  # fmt: skip
        write_record(self.path / "credentials", Record(facts))
        for asked in ("enrolment", "asking"):
            (self.path / asked).unlink(missing_ok=True)

    def forget_credentials(self) -> None:
        (self.path / "credentials").unlink(missing_ok=True)

    def plan(self, digest: bytes) -> bytes | None:
        """The plan as received, None where it is not here."""
        try:
            return read_record(self.path / "plans" / digest.hex()).blobs["plan"]
        except (FileNotFoundError, TornRecordError):
            return None

    def keep_plan(self, digest: bytes, plan: bytes) -> None:
        write_record(self.path / "plans" / digest.hex(), Record(blobs={"plan": plan}))

    def begin(self) -> int | None:
        """How many processes have begun to work in this folder, this one included: kept before anybody hears of it.
        None where that cannot be known or kept.
        """
        try:
            count = int(read_record(self.path / "starts").facts["count"])
        except FileNotFoundError:
            count = 0
        except TornRecordError as error:
            self.say(f"{error}: a copy of this folder would not be noticed")
            return None
        try:
            write_record(self.path / "starts", Record({"count": count + 1}))
        except OSError as error:
            self.say(f"this client's disk: {error}: a copy of this folder would not be noticed")
            return None
        return count + 1

    def link(self) -> tuple[int, int]:
        """Bytes sent and received by processes before this one."""
        return self._link

    def keep_link(self, sent: int, received: int) -> None:
        write_record(self.path / "link", Record({"sent": sent, "received": received}))

    def day(self) -> Day | None:
        facts = self._facts("day")
        return None if facts is None else Day(facts["date"], facts["begun_at"])

    def keep_day(self, day: Day) -> None:
        write_record(self.path / "day", Record({"date": day.date, "begun_at": day.begun_at}))

    def _facts(self, name: str) -> Mapping[str, Any] | None:
        try:
            return read_record(self.path / name).facts
        except (FileNotFoundError, TornRecordError):
            return None


def is_in_use(path: Path) -> bool:
    """Whether a process works in this folder. Raises: `OSError`."""
    try:
        lock = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _locked(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def _locked(lock: int, kind: int) -> bool:
    """Whether this process has the lock now. Who only looks has it for a moment: it is asked for twice."""
    for wait_s in (_LOOK_S, 0.0):
        with contextlib.suppress(OSError):
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return True
        time.sleep(wait_s)
    return False
