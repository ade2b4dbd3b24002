"""tus 1.0: creation, offset, appending, checksum, expiration, termination.

Nothing is awaited before the first read of a body: the server throws away what has arrived of a request that is
cut, so a link that always cuts early would never get on.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from email.utils import formatdate

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from thinwire.coordinator.serve.tasks import TaskBook, TaskFacts
from thinwire.coordinator.serve.upload import Upload
from thinwire.coordinator.serve.uploads import Uploads
from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.documentation import describe, header
from thinwire.coordinator.wire.negotiation import empty, take_body
from thinwire.coordinator.wire.problems import problem_response
from thinwire.protocol.identity import DIGEST_BYTES
from thinwire.protocol.reasons import ProblemError

from .parts import UploadId, client_of, of

TUS = "1.0.0"
OFFSET_BYTES = "application/offset+octet-stream"
CHECKSUMS = ("sha1", "sha256")
_RESUMABLE = header("Tus-Resumable", "1.0.0")
router = APIRouter(tags=["uploads"])


def _headers(**extra: str) -> dict[str, str]:
    return {"tus-resumable": TUS, **{name.replace("_", "-"): value for name, value in extra.items()}}


def _check_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != TUS:
        raise ProblemError("tus-version")


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ProblemError("bad-request", f"{name} is a whole number of bytes")
    return int(text)


def _metadata(request: Request) -> dict[str, bytes]:
    found = {}
    for item in request.headers.get("upload-metadata", "").split(","):
        key, _, value = item.strip().partition(" ")
        try:
            found[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ProblemError("bad-request", f"Upload-Metadata: {key[:40]!r} is not base64") from None
    return found


def _digest(metadata: dict[str, bytes]) -> bytes:
    """Raw, or as the hex text of a client whose metadata are strings."""
    given = metadata.get("digest", b"")
    if len(given) == DIGEST_BYTES:
        return given
    if len(given) == 2 * DIGEST_BYTES:
        with contextlib.suppress(ValueError):
            return bytes.fromhex(given.decode("ascii", "replace"))
    raise ProblemError("bad-request", f"Upload-Metadata: digest is {DIGEST_BYTES} bytes in base64, raw or in hex")


def _checksum(request: Request) -> tuple[str, bytes] | None:
    """The algorithm and checksum of a PATCH's body, where its client sends one."""
    given = request.headers.get("upload-checksum")
    if given is None:
        return None
    algorithm, _, text = given.strip().partition(" ")
    if algorithm not in CHECKSUMS:
        raise ProblemError("bad-request", f"Upload-Checksum: take one of {', '.join(CHECKSUMS)}")
    try:
        return algorithm, base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProblemError("bad-request", "Upload-Checksum: the checksum is not base64") from None


def _charge(request: Request, task: TaskFacts) -> None:
    account = account_of(request)
    account.run, account.exchange = task.run, task.exchange


@router.options("/v1/uploads", **describe("What of tus is spoken", status=204, token=False))
async def options() -> Response:
    extensions = "creation,checksum,expiration,termination"
    return empty(204, _headers(tus_version=TUS, tus_extension=extensions, tus_checksum_algorithm=",".join(CHECKSUMS)))


@router.post(
    "/v1/uploads",
    **describe(
        "Begin an upload; begun already, the same one", status=201,
        parameters=[_RESUMABLE, header("Upload-Length", "bytes in all"),
                    header("Upload-Metadata", "`task` and `digest` (32 raw bytes, or 64 hex digits), each in base64")],
        problems=("tus-version", "bad-request", "task-not-found", "upload-too-large", "too-many-requests",
                  "quota-exceeded", "storage-full", "storage-failed"),
    ),
)  # fmt: skip
async def create(request: Request) -> Response:
    client = client_of(request, "answer")
    _check_version(request)
    length, metadata = _number(request, "upload-length"), _metadata(request)
    digest = _digest(metadata)
    book, uploads = of(request, TaskBook), of(request, Uploads)
    task = await book.find(metadata.get("task", b"").decode("ascii", "replace"), client.name)
    _charge(request, task)
    most = await book.takes_up_to(task)
    if length > most:
        raise ProblemError("upload-too-large", f"{length} bytes; this task takes {most}")
    upload = await uploads.create(task, length, digest)
    location = _headers(location=f"/v1/uploads/{upload.id}")
    return empty(201, {**location, "upload-expires": _expires(uploads, upload)})


def _expires(uploads: Uploads, upload: Upload) -> str:
    return formatdate(uploads.expires_at(upload), usegmt=True)


async def _upload(request: Request, upload_id: str) -> Upload:
    """Waits for nothing, but where another coordinator has begun it and this is the first that is heard of it here."""
    client = client_of(request, "answer")
    _check_version(request)
    upload = await of(request, Uploads).locate(upload_id, client.name)
    _charge(request, upload.task)
    return upload


@router.head(
    "/v1/uploads/{upload}",
    **describe("Where to go on", parameters=[_RESUMABLE], problems=("tus-version", "upload-not-found")),
)
async def offset(request: Request, upload: UploadId) -> Response:
    found = await _upload(request, upload)
    here = await found.settle()
    headers = _headers(upload_offset=str(here), upload_length=str(found.length), cache_control="no-store")
    return empty(200, headers)


@router.patch(
    "/v1/uploads/{upload}",
    **describe(
        "Append", takes=OFFSET_BYTES, status=204,
        parameters=[_RESUMABLE, header("Upload-Offset", "where these bytes begin"),
                    header("Upload-Checksum", "algorithm, space, checksum of the body in base64", required=False)],
        problems=("tus-version", "bad-request", "unsupported-media-type", "upload-not-found", "upload-offset",
                  "upload-incomplete", "upload-too-large", "checksum-mismatch", "storage-full", "storage-failed"),
    ),
)  # fmt: skip
async def append(request: Request, upload: UploadId) -> Response:
    found = await _upload(request, upload)
    uploads, account = of(request, Uploads), account_of(request)
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != OFFSET_BYTES:
        raise ProblemError("unsupported-media-type", f"send {OFFSET_BYTES}")
    begins = _number(request, "upload-offset")
    if begins != found.offset:
        raise ProblemError("upload-offset", f"the upload stands at {found.offset}, not at {begins}")
    if (declared := request.headers.get("content-length", "")).isdecimal() and begins + int(declared) > found.length:
        raise ProblemError("upload-too-large", f"more than the {found.length} bytes that were announced")
    checksum = _checksum(request)
    if found.interrupted:
        account.resumed = begins
    try:
        with uploads.reading(found, checked=checksum is not None) as reader:

            def take(piece: bytes) -> None:
                reader.append(piece)
                account.uplink_payload += len(piece)

            await take_body(request, take)
            if checksum is not None:
                algorithm, wanted = checksum
                if await uploads.checksum(found, reader, algorithm) != wanted:
                    reader.rewind()
                    raise ProblemError("checksum-mismatch")
    except TimeoutError:
        error = ProblemError("upload-incomplete", "no byte came for too long; go on with another request")
        response = problem_response(request, error)
        response.headers["connection"] = "close"  # what is still to come of this body would be bytes for nothing
        return response
    except ClientDisconnect:
        return empty(400)  # nobody reads it; what has arrived is kept
    return empty(204, {**_headers(upload_offset=str(found.offset)), "upload-expires": _expires(uploads, found)})


@router.delete(
    "/v1/uploads/{upload}",
    **describe("Give an upload up", parameters=[_RESUMABLE], status=204, problems=("tus-version", "upload-not-found")),
)
async def terminate(request: Request, upload: UploadId) -> Response:
    found = await _upload(request, upload)
    await of(request, Uploads).forget(found)
    return empty(204, _headers())
