"""`zstd`: general compression (Zstandard, RFC 8878)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import zstandard

from .errors import CodecError
from .interface import BytesCodec

_RAW: Final = b"\x00"
_FRAME: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class Zstd(BytesCodec):
    """One byte, 1 and a Zstandard frame that declares its size, or 0 and the data as they are, whichever is shorter.

    So data that do not compress cost one byte. `level` 1 to 19; no checksum (digests do that), no dictionary.
    """

    name: ClassVar[str] = "zstd"

    level: int = 3

    def __post_init__(self) -> None:
        if type(self.level) is not int or not 1 <= self.level <= 19:
            raise CodecError("bad-chain", f"zstd takes a level from 1 to 19, not {self.level!r}")

    def max_encoded_bytes(self, size: int) -> int:
        return size + 1

    def encode(self, data: bytes) -> bytes:
        frame = zstandard.ZstdCompressor(level=self.level, write_checksum=False).compress(data)
        return _FRAME + frame if len(frame) < len(data) else _RAW + data

    def decode(self, data: bytes, *, limit: int) -> bytes:
        """Raises: `malformed`, `too-large`."""
        flag, body = data[:1], memoryview(data)[1:]
        if flag == _RAW:
            if len(body) > limit:
                raise CodecError("too-large", f"{len(body)} bytes where at most {limit} are expected")
            return bytes(body)
        if flag != _FRAME:
            raise CodecError("malformed", "zstd data start with 0 or 1")
        # The library ignores max_output_size when a frame declares its size, so that is checked first.
        try:
            parameters = zstandard.get_frame_parameters(body)
        except zstandard.ZstdError as error:
            raise CodecError("malformed", f"not a Zstandard frame: {error}") from None
        size = parameters.content_size
        if size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
            raise CodecError("malformed", "the Zstandard frame does not declare its size")
        if size > limit:
            raise CodecError("too-large", f"the frame declares {size} bytes where at most {limit} are expected")
        if parameters.dict_id or parameters.window_size > max(limit, 1 << 20):
            raise CodecError("malformed", "the Zstandard frame wants a dictionary or an excessive window")
        try:
            plain = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CodecError("malformed", f"the Zstandard frame cannot be decoded: {error}") from None
        if len(plain) != size:
            raise CodecError("malformed", f"{len(plain)} bytes where the frame declares {size}")
        return plain
