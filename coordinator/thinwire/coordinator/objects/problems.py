"""What a failed write is to whoever asked for it."""

from __future__ import annotations

import errno

import structlog

from thinwire.protocol.reasons import ProblemError

_log = structlog.get_logger("thinwire.coordinator")


def storage_problem(error: OSError) -> ProblemError:
    """`storage-full` or `storage-failed`, as the peer sees it; the operator's log has the rest."""
    reason = "storage-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "storage-failed"
    _log.error("storage", reason=reason, error=str(error))
    return ProblemError(reason, retry_after_s=5)
