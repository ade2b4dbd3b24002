"""The shape of every error."""

from __future__ import annotations

from thinwire.protocol.fields import Digest, Message


class Problem(Message):
    """The one shape of every error. `reason`: of the closed table; `model`: the final model (`run-finished`)."""

    reason: str
    detail: str
    retry: bool
    model: Digest | None = None
