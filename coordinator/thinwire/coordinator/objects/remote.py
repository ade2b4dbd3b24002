"""Objects in a store that several coordinators share: S3, Google Cloud, Azure, or a folder that all of them mount."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from thinwire.machine.files import unfinished, write_atomic
from thinwire.protocol.reasons import ProblemError

from .cache import Cache
from .local import check_name, check_prefix, is_name, one_at_a_time
from .objects import KINDS

SCHEMES: Final = ("s3", "gs", "az", "azure", "abfss", "file")
MOST_AT_ONCE: Final = 1 << 30
"""A larger object goes up in parts, after a look whether there is one of its name: stores create only whole ones."""
_SELDOM_READ: Final = ("answers/", "chunks/")
"""Of these no copy stays where they were put: another reads them, or nobody does."""
_RETRY: Final[Any] = {"max_retries": 4, "retry_timeout": timedelta(seconds=20)}
_from_url: Final[Any] = from_url  # its overloads are of one cloud each
_CLIENT: Final[Any] = {"connect_timeout": "5s", "timeout": "600s"}


def store_at(url: str) -> Any:
    """The store of a URL; credentials come from the environment, as each store's own tools have them.

    Raises: `ProblemError` (`storage-failed`), OSError.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ProblemError("storage-failed", f"the URL of a store begins with one of {', '.join(SCHEMES)}")
    try:
        if parts.scheme == "file":
            Path(parts.path).mkdir(parents=True, exist_ok=True, mode=0o700)
            return _from_url(url)
        # Options take the place of what the environment says of them.
        plain = {"allow_http": True} if os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true") else {}
        return _from_url(url, retry_config=_RETRY, client_options={**_CLIENT, **plain})
    except (BaseError, ValueError) as error:
        raise ProblemError("storage-failed", f"the store {parts.scheme}://{parts.hostname or ''}: {error}") from None


class RemoteObjects:
    """See `Objects`. `store`: as `store_at` gives it; `cache`: local copies of what was put or asked for here. `open`
    first.
    """

    is_shared = True

    def __init__(self, store: Any, cache: Cache) -> None:
        self._store = store
        self._cache = cache
        self._alone = one_at_a_time()

    def open(self) -> None:
        """Begins without copies, since what they were copies of may have gone. Raises: `OSError`."""
        self._cache.open()

    def put(self, name: str, pieces: bytes | Iterable[bytes | memoryview], *, durable: bool) -> None:
        check_name(name)
        with self._alone(name):
            beside = unfinished(self._cache.path(name))
            try:
                write_atomic(beside, pieces, fsync=False)
                self._upload(beside, name)
            finally:
                beside.unlink(missing_ok=True)

    def take(self, path: Path, name: str, *, durable: bool) -> None:
        check_name(name)
        with self._alone(name):
            self._upload(path, name)
            path.unlink(missing_ok=True)

    def local(self, name: str) -> Path:
        check_name(name)
        with self._alone(name):
            # An answer that was lost on the way to its row may be put again, by another and with another content.
            is_fixed = not name.startswith("answers/")
            if is_fixed and (found := self._cache.find(name)) is not None:
                return found
            with _as_os_errors(name):
                given = obstore.get(self._store, name)
                place = name if is_fixed else f"{name}-{_tag(given.meta)}"
                if (found := self._cache.find(place)) is not None:
                    return found
                return self._cache.keep(place, _pieces(given))

    def delete(self, names: Iterable[str]) -> None:
        gone = list(names)
        for name in gone:
            check_name(name)
            self._cache.drop(name)
        for begin in range(0, len(gone), 1000):
            self._delete(gone[begin : begin + 1000])

    def _delete(self, names: list[str]) -> None:
        try:
            with _as_os_errors(names[0]):
                obstore.delete(self._store, names)
        except FileNotFoundError:  # some stores say so
            for name in names:
                with contextlib.suppress(FileNotFoundError), _as_os_errors(name):
                    obstore.delete(self._store, name)

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name, _ in self._listed(check_prefix(prefix)))

    def usage(self) -> dict[str, int]:
        return {kind: sum(size for _, size in self._listed(kind)) for kind in KINDS}

    def _listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        with _as_os_errors(prefix):
            for some in obstore.list(self._store, f"{prefix}/", chunk_size=1000):
                for one in some:
                    if is_name(one["path"]):
                        yield one["path"], one["size"]

    def _upload(self, path: Path, name: str) -> None:
        """The file becomes the object, if there is none. A copy stays here where it is likely to be read."""
        size = path.stat().st_size
        with _as_os_errors(name):
            try:
                if size > MOST_AT_ONCE:
                    if self._has(name):
                        return
                    obstore.put(self._store, name, path)
                else:
                    obstore.put(self._store, name, _content(path, size), mode="create", use_multipart=False)
            except AlreadyExistsError:
                return
        if not name.startswith(_SELDOM_READ):
            self._cache.take(name, path)

    def _has(self, name: str) -> bool:
        try:
            obstore.head(self._store, name)
        except FileNotFoundError:
            return False
        return True


def _content(path: Path, size: int) -> Any:
    """Mapped: a large file costs no memory which the system could not take back."""
    if not size:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)


def _tag(meta: Any) -> str:
    return hashlib.sha256(str(meta["e_tag"] or meta["last_modified"]).encode()).hexdigest()[:16]


def _pieces(given: Any) -> Iterator[memoryview]:
    for piece in given.stream(min_chunk_size=1 << 22):
        yield memoryview(piece)


@contextlib.contextmanager
def _as_os_errors(name: str) -> Iterator[None]:
    """What the store says is an `OSError` for whoever asked, as with a disk."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except BaseError as error:
        raise OSError(errno.EIO, f"the store: {str(error).splitlines()[0]}", name) from None
