"""The closed table of reasons: every error anybody sees carries one of them.

A reason is never renamed or reused; one that is no longer given stays in the table, marked retired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

WIRE_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Reason:
    """`status`: of HTTP. `retry`: whether the same request may succeed later. `meaning`: what was wrong, and what
    to do.

    `since`: the wire version that introduced it. `retired`: no longer given; peers of before may still give it.
    """

    status: int
    retry: bool
    meaning: str
    since: int = 1
    retired: bool = False


REASONS: Final[Mapping[str, Reason]] = {
    # the request itself
    "bad-request": Reason(400, False, "The request cannot be understood. Compare it with protocol/README.md."),
    "bad-message": Reason(422, False, "A message does not follow its schema. The detail names the field."),
    "unsupported-media-type": Reason(415, False, "Send application/msgpack or application/json."),
    "not-acceptable": Reason(406, False, "Accept application/msgpack or application/json."),
    "message-too-large": Reason(413, False, "A control message is larger than the limit. Send arrays as an upload."),
    "not-found": Reason(404, False, "There is nothing at this address."),
    "method-not-allowed": Reason(405, False, "This address does not take this HTTP method."),
    "wire-version": Reason(400, False, "The peer speaks another wire version. Upgrade the older side."),
    "range-not-satisfiable": Reason(416, False, "The range lies outside the payload."),
    # who asks
    "token-missing": Reason(401, False, "Send `Authorization: Bearer TOKEN`."),
    "token-invalid": Reason(401, False, "The token is unknown or revoked. Enrol again with an invite."),
    "not-allowed": Reason(403, False, "This token's role may not do this."),
    "invite-invalid": Reason(403, False, "The invite is unknown, used up or expired. Ask the operator for a new one."),
    "name-taken": Reason(409, False, "Another client has this name. Choose another name."),
    "client-doubled": Reason(
        409,
        False,
        "Another process works, or has worked, as this client: its folder has been copied, or put back from a backup. "
        "Enrol the copy as a client of its own: with another invite, in an empty folder. Where there is no copy, have "
        "the operator revoke the client, and join with a new invite in this folder.",
    ),
    "too-many-requests": Reason(429, True, "Slow down; Retry-After says for how long."),
    # runs
    "run-not-found": Reason(404, False, "No run has this id or name."),
    "run-exists": Reason(409, False, "A run of this name exists. Choose another name."),
    "run-finished": Reason(410, False, "The run is over. Its final model is named, if it has one."),
    "run-state": Reason(409, False, "The run's state does not allow this. The detail names the state."),
    "run-invalid": Reason(422, False, "The run's settings, method, chains or model do not go together."),
    "no-global-model": Reason(404, False, "This method keeps its models on the clients."),
    "model-not-ready": Reason(404, True, "The run has no model yet.", retired=True),
    "model-mismatch": Reason(409, False, "The client's model is not the run's. Use the run's task file."),
    "proxy-mismatch": Reason(409, False, "The client's proxy set is not the run's. Use the same public examples."),
    "consent-missing": Reason(403, False, "The run takes knowledge that the client has not been allowed to reveal."),
    "webhook-not-found": Reason(404, False, "No webhook has this id."),
    # exchanges
    "plan-not-found": Reason(404, False, "No plan has this digest."),
    "payload-not-found": Reason(404, False, "No payload has this digest, or it is no longer needed."),
    "task-not-found": Reason(404, False, "No open task of yours has this id. Register again."),
    "answer-invalid": Reason(422, False, "The answer does not fit the task: wrong arrays, values or sizes."),
    "payload-invalid": Reason(422, False, "The payload cannot be decoded by the task's chain."),
    "answer-not-found": Reason(404, False, "No such answer to this task has arrived. Send its payload."),
    "upload-not-found": Reason(404, False, "No upload has this id, or it has expired. Create a new one."),
    "upload-offset": Reason(409, True, "The offset is not where the upload stands. Ask with HEAD and go on there."),
    "upload-incomplete": Reason(409, True, "The upload has not arrived completely. Send the rest first."),
    "upload-too-large": Reason(413, False, "The upload is larger than the task allows."),
    "digest-mismatch": Reason(422, False, "The bytes do not have the digest that was announced. Send them again."),
    "checksum-mismatch": Reason(460, True, "These bytes do not have their Upload-Checksum. Send them again."),
    "tus-version": Reason(412, False, "Send `Tus-Resumable: 1.0.0`."),
    "quota-exceeded": Reason(507, True, "Open uploads of this client or run hold all the bytes they may. Try later."),
    # the machine
    "storage-full": Reason(507, True, "The coordinator's disk is full."),
    "storage-failed": Reason(500, True, "The coordinator could not write. The operator's log says why."),
    "unavailable": Reason(503, True, "The coordinator is starting or stopping; try again."),
    "internal": Reason(500, True, "A defect of the coordinator. The operator's log has the details."),
}


class ProblemError(Exception):
    """An error with a reason of the table; the coordinator answers with it, the client raises it again.

    `detail`: what was wrong, where, and what to do; never a secret. `retry_after_s`: for how long to wait, if known.
    """

    def __init__(self, reason: str, detail: str = "", *, retry_after_s: float | None = None) -> None:
        self.entry = REASONS[reason]
        self.reason = reason
        self.detail = detail or self.entry.meaning
        self.retry_after_s = retry_after_s
        super().__init__(f"{reason}: {self.detail}")

    def __reduce__(self) -> tuple[type[ProblemError], tuple[str, str], dict[str, float | None]]:
        """Copied, and handed from process to process, as it was made."""
        return type(self), (self.reason, self.detail), {"retry_after_s": self.retry_after_s}

    @property
    def status(self) -> int:
        return self.entry.status

    @property
    def retry(self) -> bool:
        return self.entry.retry
