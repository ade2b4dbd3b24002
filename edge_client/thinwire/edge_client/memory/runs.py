"""What a client knows of one run: the parts it holds, the answer it has staged, what its method remembers.

    state         which of the files beside it are in force: the one thing that changes
    parts-E       the decoded broadcast of exchange E
    outcome-TASK  an answer and both memories

Only `state` decides: rewriting that small file is every promotion, so at each instant a client remembers exactly one
thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from thinwire.codecs import Arrays

from .records import Record, TornRecordError, read_record, write_record

Choice = Literal["accepted", "refused"]


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

    def take_back(self, task: str) -> bool:
        """The accepted answer to this task does not count any more: remembered is again what was before it. Whether
        that changed anything; only the last verdict can be taken back.
        """
        mine = self.state.decided == (task, "accepted")
        if mine:
            self._change(replace(self.state, decided=(task, "refused")))
        return mine

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
