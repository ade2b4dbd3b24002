"""The two kinds of codec, and what they may know.

A codec is a frozen dataclass; its fields are its configuration. It is stateless, pure and
synchronous: the same input gives the same output, on any machine unless its docstring says
otherwise. A complete toy:

    @dataclass(frozen=True, slots=True)
    class Negate(ArrayCodec):
        name: ClassVar[str] = "negate"

        def encoded_spec(self, spec: Spec) -> Spec:
            return spec

        def encode(self, arrays: Arrays, context: Context) -> Arrays:
            return {name: -array for name, array in arrays.items()}

        decode = encode
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from .spec import Arrays, Spec


@dataclass(frozen=True, slots=True)
class Context:
    """What both ends know already, and therefore is never sent.

    `spec`: of the arrays at this stage of the chain, before encoding / after decoding.
    `reference`: the *decoded* broadcast being answered (or the base that the receiver holds),
    by original array name; None where there is none.
    `seed`: a number both ends derive from (run seed, round, step, client name).
    """

    spec: Spec
    reference: Arrays | None = None
    seed: int = 0


class _Configured:
    __slots__ = ()
    name: ClassVar[str]

    def configuration(self) -> Mapping[str, Any]:
        """The fields that differ from their defaults: plain values, as JSON and msgpack carry them."""
        found = {}
        for field in fields(self):  # type: ignore[arg-type]  # every codec is a dataclass
            value = getattr(self, field.name)
            default = field.default if field.default_factory is MISSING else field.default_factory()
            if value != default:
                found[field.name] = list(value) if isinstance(value, tuple) else value
        return found

    def to_plain(self) -> dict[str, Any]:
        """`{"name": …, "configuration": {…}}`."""
        return {"name": self.name, "configuration": dict(self.configuration())}


class ArrayCodec(_Configured, ABC):
    """Turns a bundle of named arrays into another bundle of named arrays.

    One array may become several (`w` -> `w/u`, `w/v`). `encode` may rely on arrays that fit
    `context.spec`; `decode` may rely on arrays that fit `encoded_spec(context.spec)`, and must treat
    everything else about them as hostile: it raises `CodecError` and allocates no more than the
    specs allow. What `decode` returns fits `context.spec`.
    """

    __slots__ = ()
    lossless: ClassVar[bool] = False

    @property
    def needs_reference(self) -> bool:
        """Whether neither `encode` nor `decode` works without `context.reference`."""
        return False

    def at(self, round_: int, rounds: int) -> ArrayCodec:
        """This codec as it is in force in a round, counted from 1, of so many: the same in all, by default."""
        return self

    @abstractmethod
    def encoded_spec(self, spec: Spec) -> Spec:
        """The spec of what `encode` returns for arrays of this spec. Raises: `bad-spec`."""

    @abstractmethod
    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        """The encoded bundle. Raises: `out-of-range`, `no-reference`."""

    @abstractmethod
    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """The decoded bundle. Raises: any reason of `CodecError`."""


class BytesCodec(_Configured, ABC):
    """Turns bytes into bytes, losslessly."""

    __slots__ = ()

    def max_encoded_bytes(self, size: int) -> int:
        """An upper bound of `len(encode(data))` for data of up to `size` bytes."""
        return size

    @abstractmethod
    def encode(self, data: bytes) -> bytes:
        """The encoded bytes."""

    @abstractmethod
    def decode(self, data: bytes, *, limit: int) -> bytes:
        """The decoded bytes, never more than `limit` of them. Raises: `malformed`, `too-large`."""
