"""Arrays to bytes and back: numpy only, no network, no clients, no torch.

The byte layout of every codec is specified in `codecs/README.md`.
"""

from .append import Append, grows
from .chain import Chain
from .container import container_pieces, max_container_bytes, pack_arrays, unpack_arrays
from .errors import CODEC_REASONS, CodecError, CodecReason
from .interface import ArrayCodec, BytesCodec, Context
from .registry import CODECS
from .spec import BUFFERS, DTYPES, Array, Arrays, ArraySpec, Dimension, Open, Spec

__all__ = [
    "BUFFERS",
    "CODECS",
    "CODEC_REASONS",
    "DTYPES",
    "Append",
    "Array",
    "ArrayCodec",
    "ArraySpec",
    "Arrays",
    "BytesCodec",
    "Chain",
    "CodecError",
    "CodecReason",
    "Context",
    "Dimension",
    "Open",
    "Spec",
    "container_pieces",
    "grows",
    "max_container_bytes",
    "pack_arrays",
    "unpack_arrays",
]
