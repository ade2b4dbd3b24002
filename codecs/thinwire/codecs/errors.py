"""What can be wrong with arrays or with bytes: one exception, one closed list of reasons."""

from __future__ import annotations

from typing import Final, Literal, get_args

CodecReason = Literal[
    "bad-chain",  # a chain that cannot be built: unknown codec, wrong order, bad configuration
    "bad-spec",  # a spec that cannot be read, or that this codec cannot work with
    "does-not-fit",  # arrays that are not what the spec demands (names, dtypes, shapes)
    "out-of-range",  # a value that the representation cannot hold, or that is not finite
    "no-reference",  # a codec needs the decoded broadcast and was given none that fits
    "malformed",  # bytes that no encoder of ours writes
    "too-large",  # bytes that would unfold into more than the spec allows
]
CODEC_REASONS: Final[tuple[str, ...]] = get_args(CodecReason)


class CodecError(ValueError):
    """Raised by every codec, container and chain, and nothing else is.

    `reason` is one of `CODEC_REASONS`; the message says what was wrong and where.
    """

    def __init__(self, reason: CodecReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: CodecReason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[CodecError], tuple[CodecReason, str]]:
        """Copied, and handed from process to process, as it was made."""
        return type(self), (self.reason, self.detail)
