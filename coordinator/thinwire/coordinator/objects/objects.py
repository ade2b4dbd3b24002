"""Files by name, written once: what is there is whole and stays as it is until it is deleted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

KINDS: Final = ("payloads", "answers", "checkpoints", "models", "chunks")
"""The first parts of all names."""


def payload(run: str, digest: bytes) -> str:
    """A plan, a part of a broadcast or a final model; only the leader of its run writes and deletes it."""
    return f"payloads/{run}/{digest.hex()}"


def answer(task: str) -> str:
    """The payload of an answer, until its exchange is closed."""
    return f"answers/{task}"


def checkpoint(run: str, exchange: int, epoch: int | None = None) -> str:
    """The state before an exchange. `epoch`: of the leader's lease that wrote it, where another may write one too."""
    return f"checkpoints/{run}/{exchange}" if epoch is None else f"checkpoints/{run}/{exchange}-{epoch}"


def checkpoint_of(name: str) -> tuple[int, int]:
    """The exchange of a checkpoint, and its epoch, 0 for none."""
    exchange, _, epoch = name.rpartition("/")[2].partition("-")
    return int(exchange), int(epoch or 0)


def chunk(upload: str, epoch: int, offset: int, size: int) -> str:
    """So many bytes of an upload, from an offset on, as this epoch of it has written them."""
    return f"chunks/{upload}/{epoch}-{offset}-{size}"


def model(digest: bytes) -> str:
    """A submitted model (safetensors)."""
    return f"models/{digest.hex()}"


class Objects(Protocol):
    """Called in worker threads. Names come from the functions above. Every method raises `OSError`; one that has
    failed can be called again. `is_shared`: others may write to them at the same time.
    """

    is_shared: bool

    def open(self) -> None:
        """Makes ready."""
        ...

    def put(self, name: str, pieces: bytes | Iterable[bytes | memoryview], *, durable: bool) -> None:
        """Writes an object, wholly or not at all; one of this name that is there already stays as it is.

        `durable`: it survives the death of the machine. Raises also what `pieces` raises.
        """
        ...

    def take(self, path: Path, name: str, *, durable: bool) -> None:
        """As `put`, of a finished local file, which is no longer where it was."""
        ...

    def local(self, name: str) -> Path:
        """A local file with its content, not to be written to; a mapping of it stays good when the object is deleted.
        Raises: `FileNotFoundError`.
        """
        ...

    def delete(self, names: Iterable[str]) -> None:
        """None of these is there any more, whether or not it was."""
        ...

    def names(self, prefix: str) -> list[str]:
        """All names that begin with these parts (`checkpoints/RUN`), sorted."""
        ...

    def usage(self) -> dict[str, int]:
        """Bytes held, by kind."""
        ...
