"""A chain: array codecs, one container, bytes codecs. How arrays become a payload and back.

Written as text for people, `delta, cast(f16), zstd(level=9)`, and as a list of
`{"name": …, "configuration": {…}}` on the wire, as in zarr v3.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final

import numpy as np

from .container import max_container_bytes, pack_arrays, unpack_arrays
from .errors import CodecError
from .interface import ArrayCodec, BytesCodec, Context
from .registry import CODECS
from .scheduled import Scheduled, changes
from .spec import BUFFERS, Array, Arrays, Spec

MAX_CODECS: Final = 16


@dataclass(frozen=True, slots=True)
class Chain:
    """`encode` gives the payload of a bundle of arrays, `decode` the arrays of a payload.

    Decoding never allocates more than the spec allows, whatever the bytes are.
    """

    array_codecs: tuple[ArrayCodec, ...] = ()
    bytes_codecs: tuple[BytesCodec, ...] = ()

    @property
    def lossless(self) -> bool:
        return all(codec.lossless for codec in self.array_codecs)

    @property
    def needs_reference(self) -> bool:
        return any(codec.needs_reference for codec in self.array_codecs)

    @property
    def changes(self) -> bool:
        """Whether a setting of it changes over a run: then `at` gives what codes."""
        return any(isinstance(codec, Scheduled) for codec in self.array_codecs)

    def at(self, round_: int, rounds: int) -> Chain:
        """As it is in force in a round, counted from 1, of so many."""
        if not self.changes:
            return self
        return Chain(tuple(codec.at(round_, rounds) for codec in self.array_codecs), self.bytes_codecs)

    def bound(self, spec: Spec) -> BoundChain:
        """This chain for arrays of this spec. Raises `bad-spec` if one of its codecs cannot work with such arrays."""
        return _bound(self, spec)

    def encode(self, arrays: Arrays, spec: Spec, *, reference: Arrays | None = None, seed: int = 0) -> bytes:
        """The payload. `arrays` fit `spec`. Raises: `does-not-fit`, `out-of-range`, `no-reference`, `bad-spec`."""
        return self.bound(spec).encode(arrays, reference=reference, seed=seed)

    def decode(self, data: bytes, spec: Spec, *, reference: Arrays | None = None, seed: int = 0) -> dict[str, Array]:
        """The arrays, fitting `spec`; they may be read-only views. Raises: `CodecError`, any reason."""
        return self.bound(spec).decode(data, reference=reference, seed=seed)

    def to_plain(self) -> list[dict[str, Any]]:
        return [codec.to_plain() for codec in (*self.array_codecs, *self.bytes_codecs)]

    def __str__(self) -> str:
        """The text form, which `Chain.parse` reads."""
        written = []
        for codec in (*self.array_codecs, *self.bytes_codecs):
            arguments = ", ".join(f"{key}={value!r}" for key, value in codec.configuration().items())
            written.append(f"{codec.name}({arguments})" if arguments else codec.name)
        return ", ".join(written)

    @staticmethod
    def of(codecs: Sequence[ArrayCodec | BytesCodec]) -> Chain:
        """Raises `bad-chain` where an array codec stands behind a bytes codec."""
        if len(codecs) > MAX_CODECS:
            raise CodecError("bad-chain", f"{len(codecs)} codecs; at most {MAX_CODECS}")
        array_codecs = [codec for codec in codecs if isinstance(codec, ArrayCodec)]
        bytes_codecs = [codec for codec in codecs if isinstance(codec, BytesCodec)]
        if [*array_codecs, *bytes_codecs] != list(codecs):
            order = ", ".join(codec.name for codec in codecs)
            raise CodecError("bad-chain", f"codecs of arrays come before codecs of bytes; got {order}")
        return Chain(tuple(array_codecs), tuple(bytes_codecs))

    @staticmethod
    def from_plain(plain: object) -> Chain:
        """Raises: `bad-chain`."""
        if not isinstance(plain, list):
            raise CodecError("bad-chain", 'a chain is a list of {"name": …, "configuration": {…}}')
        codecs = []
        for item in plain:
            if not isinstance(item, dict) or not {"name"} <= item.keys() <= {"name", "configuration"}:
                raise CodecError("bad-chain", 'a codec is {"name": …, "configuration": {…}}')
            codecs.append(_build(item["name"], item.get("configuration", {})))
        return Chain.of(codecs)

    @staticmethod
    def parse(text: str) -> Chain:
        """The chain a person wrote: names with optional arguments, literals only; "" is the bare container.

        A first argument without a name sets the codec's first field: `cast(f16)`, `quantise(8)`.
        Raises: `bad-chain`.
        """
        try:
            tree = ast.parse(f"[{text}]", mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise CodecError("bad-chain", f"cannot read {text!r}; write for example: delta, cast(f16), zstd") from None
        if not isinstance(tree, ast.List):
            raise CodecError("bad-chain", f"cannot read {text!r}; write for example: delta, cast(f16), zstd")
        return Chain.of([_parse_codec(node) for node in tree.elts])


@dataclass(frozen=True, slots=True)
class BoundChain:
    """A chain and what follows from it and a spec alone, the same for every payload of an exchange.

    `spec`: of all arrays. `specs`: before each array codec, and behind the last one, without the arrays under
    `BUFFERS`, which no array codec sees. `packed`: of what lies in the container. `limits`: the largest size before
    each bytes codec, and behind the last one.
    """

    chain: Chain
    spec: Spec
    specs: tuple[Spec, ...]
    packed: Spec
    limits: tuple[int, ...]

    @property
    def max_payload_bytes(self) -> int:
        """An upper bound of the payload's size: what a receiver may refuse to read beyond."""
        return self.limits[-1]

    def encode(self, arrays: Arrays, *, reference: Arrays | None = None, seed: int = 0) -> bytes:
        """As `Chain.encode`."""
        self.spec.check(arrays)
        arrays, buffers = _parted(arrays)
        for codec, stage in zip(self.chain.array_codecs, self.specs, strict=False):
            arrays = codec.encode(arrays, Context(stage, reference, seed))
        data = pack_arrays({**arrays, **buffers}, self.packed)
        for bytes_codec in self.chain.bytes_codecs:
            data = bytes_codec.encode(data)
        return data

    def decode(self, data: bytes, *, reference: Arrays | None = None, seed: int = 0) -> dict[str, Array]:
        """As `Chain.decode`."""
        *limits, largest = self.limits
        if len(data) > largest:
            raise CodecError("too-large", f"a payload of {len(data)} bytes; at most {largest}")
        for bytes_codec, limit in zip(reversed(self.chain.bytes_codecs), reversed(limits), strict=True):
            data = bytes_codec.decode(data, limit=limit)
        arrays, buffers = _parted(unpack_arrays(data, self.packed))
        # Hostile values may overflow or be NaN: no cause for a warning; whoever uses the arrays checks them.
        with np.errstate(over="ignore", invalid="ignore"):
            for codec, stage in zip(reversed(self.chain.array_codecs), reversed(self.specs[:-1]), strict=True):
                arrays = codec.decode(arrays, Context(stage, reference, seed))
        arrays = {**arrays, **buffers}
        self.spec.check(arrays)
        # Arithmetic on a 0-d array gives a numpy scalar, which is no array.
        return {name: np.asarray(array) for name, array in arrays.items()}


def _parted(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """What array codecs see, and the buffers."""
    buffers = {name: array for name, array in arrays.items() if name.startswith(BUFFERS)}
    return ({name: array for name, array in arrays.items() if name not in buffers} if buffers else arrays), buffers


@lru_cache(maxsize=64)
def _bound(chain: Chain, spec: Spec) -> BoundChain:
    buffers = [(name, item) for name, item in spec.items() if name.startswith(BUFFERS)]
    specs = [Spec((name, item) for name, item in spec.items() if not name.startswith(BUFFERS)) if buffers else spec]
    for codec in chain.array_codecs:
        specs.append(codec.encoded_spec(specs[-1]))
    packed = Spec([*specs[-1].items(), *buffers]) if buffers else specs[-1]
    limits = [max_container_bytes(packed)]
    for bytes_codec in chain.bytes_codecs:
        limits.append(bytes_codec.max_encoded_bytes(limits[-1]))
    return BoundChain(chain, spec, tuple(specs), packed, tuple(limits))


def _parse_codec(node: ast.expr) -> ArrayCodec | BytesCodec:
    if isinstance(node, ast.Name):
        return _build(node.id, {})
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise CodecError("bad-chain", f"{ast.unparse(node)!r} is not a codec")
    name = node.func.id
    configuration = {}
    for position, argument in enumerate(node.args):
        names = _settings_of(CODECS[name]) if name in CODECS else []
        if position >= len(names):
            raise CodecError("bad-chain", f"{name!r} is given too many arguments, or is no codec")
        configuration[names[position]] = _literal(argument)
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in configuration:
            raise CodecError("bad-chain", f"{ast.unparse(node)!r} gives an argument twice")
        configuration[keyword.arg] = _literal(keyword.value)
    return _build(name, configuration)


def _settings_of(codec: type[ArrayCodec] | type[BytesCodec]) -> list[str]:
    return [field.name for field in fields(codec)]  # type: ignore[arg-type]  # every codec is a dataclass


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):  # a bare word is a string: cast(f16)
        return node.id
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise CodecError("bad-chain", f"{ast.unparse(node)!r} is neither a number nor a word") from None


def _build(name: object, configuration: object) -> ArrayCodec | BytesCodec:
    codec = CODECS.get(name) if isinstance(name, str) else None
    if codec is None:
        raise CodecError("bad-chain", f"no codec is named {name!r}; there are {', '.join(sorted(CODECS))}")
    if not isinstance(configuration, dict):
        raise CodecError("bad-chain", f"the configuration of {name!r} is not a mapping")
    known = _settings_of(codec)
    unknown = sorted(str(key) for key in configuration if key not in known)
    if unknown:
        raise CodecError(
            "bad-chain", f"{name!r} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}"
        )
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in configuration.items()}
    try:
        if any(map(changes, plain.values())):
            if not issubclass(codec, ArrayCodec):
                raise CodecError(
                    "bad-chain", f"{name!r} codes bytes; over a run only settings of arrays' codecs change"
                )
            return Scheduled.of(codec.name, codec, plain)
        return codec(**plain)
    except CodecError:
        raise
    except (TypeError, ValueError) as error:
        raise CodecError("bad-chain", f"{name!r} cannot be configured so: {error}") from None
