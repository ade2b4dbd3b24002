"""The client's folder: who it is, what its methods remember, which parts it holds, and the answer it has staged.

    credentials            coordinator, name and token; readable by the owner only
    name                   what it asked to be called where the user gave no name
    lock                   held while a process works in this folder
    link                   what the kernel counted over all connections so far
    day                    what it had counted when the present day began
    plans/DIGEST           plans, as received
    partial/DIGEST         downloads, as far as they have come
    runs/RUN/state         which of the files beside it are in force: the one thing that changes
    runs/RUN/parts-E       the decoded broadcast of exchange E
    runs/RUN/outcome-TASK  an answer and both memories

Everything but `partial` is a record, and only `state` decides: rewriting that small file is every promotion, so at each
instant a client remembers exactly one thing. A run whose files a disk has damaged begins anew; what is left of them is
kept in `damaged`, in case somebody can mend it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from thinwire.codecs import Arrays

from .care import Day
from .records import Record, TornRecordError, read_record, write_record

Choice = Literal["accepted", "refused"]


class FolderInUseError(Exception):
    """Another process works in this folder."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`coordinator`: the address they are for; they are never sent elsewhere."""

    coordinator: str
    client: str
    token: str


@dataclass(frozen=True, slots=True)
class StagedOutcome:
    """An answer as it will be sent, and both memories. `payload`: encoded, None for an empty reply."""

    task: str
    exchange: int
    examples: int
    metrics: Mapping[str, float]
    payload: bytes | None
    accepted: Arrays
    refused: Arrays


@dataclass(frozen=True, slots=True)
class RunState:
    """`held`: the exchange whose parts are on disk. `staged`: the task whose outcome has no verdict yet. `decided`: the
    last task with a verdict, and which of its memories that promoted. `upload`: of the staged answer.
    """

    held: int | None = None
    staged: str | None = None
    decided: tuple[str, Choice] | None = None
    upload: str | None = None


class RunMemory:
    """What this client knows of one run."""

    def __init__(self, folder: Path) -> None:
        """Raises: `TornRecordError` where a file that the state names is damaged."""
        self._folder = folder
        self._staged: StagedOutcome | None = None
        self._memoryless: str | None = None
        self.state = self._read_state()
        self._sweep()
        self.memory()
        if self.state.staged is not None:
            self.outcome(self.state.staged)

    @property
    def run(self) -> str:
        return self._folder.name

    def memory(self) -> Arrays:
        """What the last verdict promoted; {} before the first one."""
        if self.state.decided is None:
            return {}
        task, choice = self.state.decided
        return {} if task == self._memoryless else self._read_outcome(task).bundles[choice]

    def parts(self) -> dict[str, Arrays]:
        """The decoded broadcast parts of the exchange `state.held`, by name."""
        return {} if self.state.held is None else dict(read_record(self._parts(self.state.held)).bundles)

    def forget_parts(self) -> None:
        """After damage to the disk: they will come whole."""
        self._change(replace(self.state, held=None))

    def hold(self, exchange: int, parts: Mapping[str, Arrays]) -> None:
        """Keeps these parts instead of those held so far."""
        write_record(self._parts(exchange), Record(bundles=parts))
        self._change(replace(self.state, held=exchange))

    def stage(self, outcome: StagedOutcome) -> None:
        """Keeps this outcome until its verdict, and as the answer to the same task asked again until the next one."""
        facts = {
            "task": outcome.task,
            "exchange": outcome.exchange,
            "examples": outcome.examples,
            "metrics": dict(outcome.metrics),
        }
        blobs = {} if outcome.payload is None else {"payload": outcome.payload}
        bundles = {"accepted": outcome.accepted, "refused": outcome.refused}
        write_record(self._outcome(outcome.task), Record(facts, blobs, bundles))
        self._change(replace(self.state, staged=outcome.task, upload=None))
        # What is remembered is read again, since arrays may change under us; a large payload alone is not.
        if not outcome.accepted and not outcome.refused:
            self._staged, self._memoryless = outcome, outcome.task

    def outcome(self, task: str) -> StagedOutcome | None:
        """The outcome of this task, if it is the staged one or the last decided one."""
        decided = None if self.state.decided is None else self.state.decided[0]
        if task not in (self.state.staged, decided):
            return None
        if self._staged is not None and self._staged.task == task:
            return self._staged
        found = self._read_outcome(task)
        facts: Mapping[str, Any] = found.facts
        return StagedOutcome(
            task=facts["task"],
            exchange=facts["exchange"],
            examples=facts["examples"],
            metrics=facts["metrics"],
            payload=found.blobs.get("payload"),
            accepted=found.bundles["accepted"],
            refused=found.bundles["refused"],
        )

    def remember_upload(self, upload: str | None) -> None:
        """The upload that carries the staged answer, to go on with after a restart."""
        self._change(replace(self.state, upload=upload))

    def decide(self, task: str, choice: Choice) -> None:
        """Promotes one memory of the staged outcome. A verdict on anything else changes nothing."""
        if self.state.staged == task:
            self._change(replace(self.state, staged=None, decided=(task, choice), upload=None))
            self._staged = None

    def _change(self, state: RunState) -> None:
        facts = {"held": state.held, "staged": state.staged, "decided": state.decided, "upload": state.upload}
        write_record(self._folder / "state", Record(facts))
        self.state = state
        self._sweep()

    def _read_state(self) -> RunState:
        try:
            facts = read_record(self._folder / "state").facts
        except FileNotFoundError:
            return RunState()
        decided = facts["decided"]
        return RunState(
            facts["held"], facts["staged"], None if decided is None else (decided[0], decided[1]), facts["upload"]
        )

    def _read_outcome(self, task: str) -> Record:
        try:
            return read_record(self._outcome(task))
        except FileNotFoundError:
            raise TornRecordError(f"{self._outcome(task)} is missing") from None

    def _sweep(self) -> None:
        """Removes what the state does not name: leftovers of a crash, and what has been replaced."""
        kept = {self._folder / "state"}
        if self.state.held is not None:
            kept.add(self._parts(self.state.held))
        if self.state.staged is not None:
            kept.add(self._outcome(self.state.staged))
        if self.state.decided is not None:
            kept.add(self._outcome(self.state.decided[0]))
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path not in kept:
                path.unlink()

    def _parts(self, exchange: int) -> Path:
        return self._folder / f"parts-{exchange}"

    def _outcome(self, task: str) -> Path:
        return self._folder / f"outcome-{task}"


class Folder:
    """The folder of one client, held by one process. `say`: hears of what was damaged.

    Raises: `FolderInUseError`, `OSError`.
    """

    def __init__(self, path: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.path = path
        self.say = say
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise FolderInUseError(f"another client works in {path}") from None
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
        return Credentials(facts["coordinator"], facts["client"], facts["token"])

    def keep_credentials(self, credentials: Credentials) -> None:
        facts = {"coordinator": credentials.coordinator, "client": credentials.client, "token": credentials.token}
        write_record(self.path / "credentials", Record(facts))

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

    def link(self) -> tuple[int, int]:
        """Bytes sent and received by processes before this one."""
        facts = self._facts("link")
        return (0, 0) if facts is None else (facts["sent"], facts["received"])

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
