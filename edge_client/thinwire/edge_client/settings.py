"""What a person at a device may ask for: every option of the commands, once. Loads neither torch nor numpy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from thinwire.machine.link_rates import LinkRates, parse_link
from thinwire.machine.quantities import parse_bytes, parse_rate
from thinwire.protocol.command_options import Written
from thinwire.protocol.settings import Settings

from .link.care import METERED_BYTES_PER_DAY, QuietHours, parse_quiet_hours
from .link.emulated import limited

PERMISSIONS: Final = ("sample-knowledge",)
"""What a person may allow their client to reveal, with `--allow`."""


class UsageError(Exception):
    """An option that cannot be."""


def _parts(text: str) -> tuple[int, int]:
    try:
        index, clients = (int(part) for part in text.split("/"))
    except ValueError:
        raise ValueError("write which part of how many, for example 3/8") from None
    if not 0 <= index < clients:
        raise ValueError(f"parts are counted from 0 to {clients - 1}")
    return index, clients


def sizes_of(text: str) -> tuple[int | None, int | None]:
    train, _, test = text.partition("/")
    try:
        return int(train) if train else None, int(test) if test else None
    except ValueError:
        raise ValueError("write TRAIN or TRAIN/TEST") from None


def _of_user(variable: str, otherwise: str) -> Path:
    """A folder of this user's own (XDG). Raises: `UsageError`."""
    named = os.environ.get(variable)
    try:
        folder = Path(named) if named else Path.home() / otherwise
    except RuntimeError:
        folder = Path()
    if not folder.is_absolute() or folder == Path("/") / otherwise:
        raise UsageError(f"this user has no home folder; give --data-dir, or set {variable} to a whole path")
    return folder


def _read_by(read: Callable[[str], object]) -> AfterValidator:
    """A text that this function takes, which raises `ValueError` for others; kept as it was written."""

    def check(text: str | None) -> str | None:
        if text is not None:
            read(text)
        return text

    return AfterValidator(check)


def _name(text: str) -> object:
    # Loads numpy, which `--help` does without.
    from thinwire.protocol.identity import NAME

    if NAME.fullmatch(text) is None:
        raise ValueError("a name has 1 to 64 of the characters A-Z a-z 0-9 . _ - and begins with a letter or a digit")
    return text


def _rule(text: str) -> object:
    # Likewise.
    from .problems.splits import parse_rule

    return parse_rule(text)


def _permissions(names: tuple[str, ...]) -> tuple[str, ...]:
    if not set(names) <= set(PERMISSIONS):
        raise ValueError(f"there are {', '.join(PERMISSIONS)}")
    return names


Name = Annotated[str | None, _read_by(_name)]
Split = Annotated[str, _read_by(_rule)]
Share = Annotated[str, _read_by(_parts)]
Sizes = Annotated[str, _read_by(sizes_of)]
Permissions = Annotated[tuple[str, ...], AfterValidator(_permissions)]
Link = Annotated[str | None, _read_by(parse_link)]
Rate = Annotated[str | None, _read_by(parse_rate)]
Bytes = Annotated[str | None, _read_by(parse_bytes)]
Hours = Annotated[str | None, _read_by(parse_quiet_hours)]


class ProblemSettings(Settings):
    """What is learnt. On the command line a problem is a task."""

    task: str = Field(description="a file ending in .py; or digits, mnist, fashion_mnist, cifar10, npz:FILE, ...")
    data: Path | None = Field(None, description="npz file of a built-in task that is not bundled")
    download: bool = Field(False, description="fetch the data of a built-in task from the usual place")
    architecture: str | None = Field(None, description="of a built-in task, instead of its own")
    classes: int | None = Field(
        None, ge=1, description="of an npz task, the same on all clients; default: as many as this file's labels need"
    )

    @property
    def downloads(self) -> Path | None:
        """Where fetched data are kept; None where none are to be fetched."""
        return _of_user("XDG_CACHE_HOME", ".cache") / "thinwire" if self.download else None


class FolderSettings(Settings):
    """Which client of this device is meant."""

    name: Name = Field(None, description="this client's stable name")
    data_dir: Path | None = Field(None, description="this client's folder: one per client")

    @property
    def folder(self) -> Path:
        """Where data of users belong (XDG), unless said otherwise."""
        return self.data_dir or _of_user("XDG_DATA_HOME", ".local/share") / "thinwire-client" / (self.name or "client")


class PlaceSettings(FolderSettings):
    """Which client of this device is meant, and whom it trusts."""

    give_up_after_s: float | None = Field(None, ge=0, description="seconds without any answer")
    ca_file: Path | None = Field(None, description="certificates to trust instead of the system's")


class SimulateSettings(ProblemSettings):
    """The options of `simulate`: all clients of a run in one process."""

    clients: int = Field(8, ge=1, le=1000, description="of each run")
    split: Split = Field("iid", description="iid, dirichlet:ALPHA, classes:K or natural")
    seed: int = Field(0, ge=0, description="of split and first model")
    limit: Sizes = Field("", description="use only so many examples: TRAIN or TRAIN/TEST")
    processes: int = Field(1, ge=1, le=1024, description="among which the clients are divided, to train side by side")
    threads: int = Field(1, ge=1, description="of torch")
    device: str = Field("cpu", description="cpu, cuda, cuda:1, mps")
    allow: Permissions = Field((), description="consent, for example sample-knowledge")
    link: Link = Field(None, description="say how fast this link is: 4g, 3g, nb-iot, satellite or RATE,RTT,LOSS")

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        """How many examples to use, for training and tests."""
        return sizes_of(self.limit)


class PartSettings(Settings):
    """Which of the data are this client's."""

    split: Split = Field("iid", description="iid, dirichlet:ALPHA, classes:K or natural")
    share: Share = Field("0/1", description="which part of how many is this client's: 3/8, counted from 0")
    seed: int = Field(0, ge=0, description="of split and fresh model; the same on all clients")

    @property
    def part(self) -> tuple[int, int]:
        """Which share of how many is this client's."""
        return _parts(self.share)


class JoinSettings(PlaceSettings, PartSettings, ProblemSettings):
    """The options of `join`."""

    invite_file: Path | None = Field(
        None, description="file with the invite; or set THINWIRE_INVITE. Needed once; without one it asks to be let in"
    )
    says: str = Field(
        "", max_length=200, description="where it asks to be let in: what the operator is told of this device"
    )
    limit: Sizes = Field("", description="use only so many examples: TRAIN or TRAIN/TEST")
    threads: int = Field(
        1, ge=1, description="of torch. Others wait for it on a busy machine; their number changes the last bits"
    )
    nice: int | None = Field(None, ge=0, le=19, description="leave the processors to others: 19 is the most")
    memory: Bytes = Field(None, description="of this process at most: 1GB. A task that needs more is declined")
    device: str = Field("cpu", description="cpu, cuda, cuda:1, mps; cuda:0,1: several, for a `fit` of the task's own")
    allow: Permissions = Field((), description="consent, for example sample-knowledge")
    max_task_seconds: float = Field(86_400.0, ge=0.001, description="longest training of one task")
    max_task_bytes: int = Field(1 << 33, ge=1, description="arrays of one task, decoded")
    max_answer_bytes: int | None = Field(
        None, ge=1, description="largest answer to send; feddlr lowers its ranks to fit"
    )
    own_first: bool = Field(
        True, description="make the run's first model here, where it is this client's own, instead of downloading it"
    )
    moved: bool = Field(False, description="the coordinator that this client's folder belongs to is at URL now")
    keep_model: Path | None = Field(None, description="write the final model here (safetensors)")
    forever: bool = Field(False, description="wait for further runs when all are over")
    stalled_after_s: float = Field(60.0, ge=0.1, description="seconds without one byte in a transfer")
    link: Link = Field(None, description="emulate 4g, 3g, nb-iot, satellite or RATE,RTT,LOSS: 64kbit,300ms,1%")
    max_uplink: Rate = Field(None, description="bits per second to use at most: 64kbit, 2mbit")
    max_downlink: Rate = Field(None, description="bits per second to use at most: 64kbit, 2mbit")
    metered: bool = Field(False, description="the link is billed: 50MB a day, unless --daily-bytes says otherwise")
    daily_bytes: Bytes = Field(None, description="both directions, by the local day: 50MB. What is used up, waits")
    quiet_hours: Hours = Field(None, description="no transfer begins in them: 22:00-06:30, local time")
    log: Literal["failures", "rounds", "never"] = Field(
        "failures", description="when the coordinator is sent the lines that this client has said since the last ones, "
        "without data: behind a failure, behind every answer, never",
    )  # fmt: skip
    stats: Path | None = Field(None, description="write byte counts here at exit, as JSON")
    quiet: Annotated[bool, Written(short="-q")] = Field(False, description="say nothing but errors")

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        """How many examples to use, for training and tests."""
        return sizes_of(self.limit)

    @property
    def rates(self) -> LinkRates | None:
        """Of an emulated or limited link."""
        return limited(self.link, self.max_uplink, self.max_downlink)

    @property
    def budget(self) -> int | None:
        """Bytes that a day may cost."""
        if self.daily_bytes is not None:
            return parse_bytes(self.daily_bytes)
        return METERED_BYTES_PER_DAY if self.metered else None

    @property
    def quiet_times(self) -> QuietHours | None:
        """Hours in which no transfer begins."""
        return None if self.quiet_hours is None else parse_quiet_hours(self.quiet_hours)
