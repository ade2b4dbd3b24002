"""Reading and writing the headers inside coded arrays."""

from __future__ import annotations

from thinwire.codecs.errors import CodecError


def varint(value: int) -> bytes:
    """LEB128: seven bits a byte, lowest first, the highest bit set on all but the last byte."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Takes pieces from the front of hostile bytes. Every method raises `malformed` where they are cut short."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    @property
    def rest(self) -> memoryview:
        """What has not been taken yet."""
        return self._data[self._at :]

    def skip(self, size: int) -> None:
        """Steps over bytes that were read through `rest`."""
        self._at += size

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        piece = self._data[self._at : self._at + size]
        if len(piece) < size:
            raise CodecError("malformed", "a header is cut short")
        self._at += size
        return piece

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, most: int) -> int:
        """A number in LEB128's shortest form, at most `most`."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if value > most or shift > 70:
                raise CodecError("malformed", f"a number above {most}")
            if byte < 128:
                if byte == 0 and shift > 7:
                    raise CodecError("malformed", "a number that is not in its shortest form")
                return value

    def end(self) -> None:
        """Raises `malformed` if something is left."""
        if self._at != len(self._data):
            raise CodecError("malformed", f"{len(self._data) - self._at} bytes too many")
