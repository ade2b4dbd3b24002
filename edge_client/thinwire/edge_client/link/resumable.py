"""Large bodies that go on where they stopped: downloads by Range into a partial file, uploads by tus 1.0."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from thinwire.machine.quantities import in_bytes
from thinwire.protocol.identity import ID, digest_of
from thinwire.protocol.reasons import ProblemError

from .replies import BadPeerError, Reply, StrangerError, TooLargeError, check, check_type, plain_headers, read_reply
from .transfer import UNHEARD, AgainError, Transfer

_PIECE: Final = 1 << 16
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_MAX_ERROR_BYTES: Final = 1 << 16
_TIMES_WRONG: Final = 3


def download(
    transfer: Transfer, digest: bytes, size: int | None, folder: Path, *, most: int = 1 << 36, kind: str = "payloads"
) -> bytes:
    """The payload of this digest and size; None: the size is not known, and at most `most`. `kind`: or "plans".

    What has arrived stays in `folder/DIGEST` until the rest has.

    Raises: `ProblemError` (`payload-not-found`, `plan-not-found`; `digest-mismatch` where it is wrong again and again).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / digest.hex()
    for _ in range(_TIMES_WRONG):
        _fetch(transfer, f"/v1/{kind}/{digest.hex()}", path, size, most)
        payload = path.read_bytes()
        path.unlink()
        if digest_of(payload) == digest:
            return payload
    raise ProblemError("digest-mismatch", f"payload {digest.hex()} arrived wrong {_TIMES_WRONG} times")


def _fetch(transfer: Transfer, address: str, path: Path, size: int | None, most: int) -> None:
    def stands() -> int:
        return path.stat().st_size if path.exists() else 0

    def attempt() -> None:
        offset = stands()
        if size is not None and offset > size:
            path.unlink()
            offset = 0
        if offset != size or not path.exists():
            try:
                _fetch_from(transfer, address, path, offset, most if size is None else size)
            except ProblemError as error:
                if error.reason != "range-not-satisfiable":
                    raise
                path.unlink(missing_ok=True)
                raise AgainError(str(error)) from None

    transfer.persist(attempt, reached=stands)


def _fetch_from(transfer: Transfer, address: str, path: Path, offset: int, most: int) -> None:
    """Appends what comes; returns once the whole payload is there."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with transfer.open("GET", address, headers) as response:
        if response.status not in (200, 206):
            check(read_reply(response, _MAX_ERROR_BYTES))
            raise StrangerError(f"status {response.status} to a download")
        check_type(plain_headers(response))
        if response.status == 206 and not plain_headers(response).get("content-range", "").startswith(
            f"bytes {offset}-"
        ):
            raise StrangerError("a range was asked for and another one came")
        transfer.answered()
        with path.open("ab" if response.status == 206 else "wb", buffering=0) as file:
            arrived = offset if response.status == 206 else 0
            for piece in response.iter_stream():
                arrived += len(piece)
                if arrived > most:
                    raise BadPeerError(f"a payload larger than its {most} bytes")
                rest = memoryview(piece)
                while rest:
                    # A disk that is nearly full takes less than it is given.
                    rest = rest[file.write(rest) :]
    # A body that ends early breaks the protocol, so what has ended is whole.


def upload(
    transfer: Transfer, task: str, payload: bytes, *, known: str | None, remember: Callable[[str | None], None]
) -> str:
    """The id of the finished upload of this answer. `known`: of one begun before; `remember`: is told of a new one.

    Raises: `ProblemError` (`task-not-found`, `upload-too-large`).
    """
    sending = _Upload(transfer, task, payload, known, remember)
    while (found := sending.finished()) is None:
        transfer.persist(sending.step, reached=sending.reached)
    return found


_SMALLEST_PIECE: Final = 1 << 14
_USUAL_LIMIT: Final = 1 << 20
"""What proxies let through as a rule, where they were told nothing."""


class _Upload:
    """One upload: created, asked where it stands, sent from there; each a step. An offset of -1 is to be asked for."""

    def __init__(
        self, transfer: Transfer, task: str, payload: bytes, known: str | None, remember: Callable[[str | None], None]
    ) -> None:
        self._transfer = transfer
        self._task = task
        self._payload = payload
        self._known = known
        self._remember = remember
        self._offset = -1
        self._asked_for = False
        self._most = len(payload)

    def finished(self) -> str | None:
        return self._known if self._offset == len(self._payload) else None

    def reached(self) -> int:
        return self._offset

    def step(self) -> None:
        """Raises: `AgainError`, `ProblemError`, `UNHEARD`."""
        try:
            if self._known is None:
                # Where an earlier request was heard but not its answer, this is an upload that has begun.
                offset, self._asked_for = -1 if self._asked_for else 0, True
                self._known, self._offset = _create(self._transfer, self._task, self._payload), offset
                self._remember(self._known)
            elif self._offset < 0:
                self._offset = _offset(self._transfer, self._known)
            else:
                self._send()
        except UNHEARD:
            self._offset = -1
            if self._known is not None:
                self._offset = _offset_if_there(self._transfer, self._known)
            raise
        except ProblemError as error:
            if error.reason == "upload-not-found" and self._known is not None:
                self._known = None
                self._remember(None)
            elif error.reason != "upload-offset":
                raise
            self._offset = -1
            raise AgainError(str(error)) from None

    def _send(self) -> None:
        """Sends what is left, or as much of it at once as gets through."""
        assert self._known is not None  # noqa: S101
        end = min(len(self._payload), self._offset + self._most)
        try:
            self._offset = _send_from(self._transfer, self._known, self._payload[:end], self._offset)
        except TooLargeError as error:
            size = end - self._offset
            if size <= _SMALLEST_PIECE:
                raise
            self._most = max(_SMALLEST_PIECE, _USUAL_LIMIT if size > _USUAL_LIMIT else size // 2)
            raise AgainError(f"{error}; sending pieces of {in_bytes(self._most)}") from None


def _create(transfer: Transfer, task: str, payload: bytes) -> str:
    named = {"task": task.encode(), "digest": hashlib.sha256(payload).digest()}
    metadata = ",".join(f"{name} {base64.b64encode(value).decode()}" for name, value in named.items())
    headers = {**_TUS, "Upload-Length": str(len(payload)), "Upload-Metadata": metadata}
    reply = _exchange(transfer, "POST", "/v1/uploads", headers)
    upload_id = reply.headers.get("location", "").rstrip("/").rpartition("/")[2]
    if ID.fullmatch(upload_id) is None:
        raise StrangerError("an upload was created without a Location that ends in its id")
    transfer.answered()
    return upload_id


def _offset(transfer: Transfer, upload_id: str) -> int:
    return _upload_offset(transfer, _exchange(transfer, "HEAD", f"/v1/uploads/{upload_id}", _TUS))


def _offset_if_there(transfer: Transfer, upload_id: str) -> int:
    """Where the upload stands after a cut; -1, to ask again later, where nobody answers."""
    try:
        return _offset(transfer, upload_id)
    except (*UNHEARD, ProblemError):
        return -1


def _send_from(transfer: Transfer, upload_id: str, payload: bytes, offset: int) -> int:
    headers = {
        **_TUS,
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(len(payload) - offset),
    }
    return _upload_offset(
        transfer, _exchange(transfer, "PATCH", f"/v1/uploads/{upload_id}", headers, _pieces(payload, offset))
    )


def _pieces(payload: bytes, offset: int) -> Iterator[bytes]:
    for start in range(offset, len(payload), _PIECE):
        yield payload[start : start + _PIECE]


def _upload_offset(transfer: Transfer, reply: Reply) -> int:
    try:
        offset = int(reply.headers["upload-offset"])
    except (KeyError, ValueError):
        raise StrangerError("an upload without an Upload-Offset") from None
    transfer.answered()
    return offset


def _exchange(
    transfer: Transfer, method: str, path: str, headers: dict[str, str], body: Iterator[bytes] | None = None
) -> Reply:
    with transfer.open(method, path, headers, body) as response:
        reply = read_reply(response, _MAX_ERROR_BYTES)
    if method == "HEAD" and reply.status == 404:
        # A response to HEAD has no body that could name the reason.
        raise ProblemError("upload-not-found")
    check(reply)
    return reply
