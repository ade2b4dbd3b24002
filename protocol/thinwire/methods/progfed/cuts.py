"""How the arrays of a model divide into blocks and a head, by their names alone."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from thinwire.codecs import Array, Arrays, CodecError
from thinwire.methods.arrays import is_buffer, own_name
from thinwire.methods.progfed import ProgfedSettings

TEMPORARY: Final[Mapping[str, str]] = {"weight": "temporary-head.weight", "bias": "temporary-head.bias"}
"""The arrays of a temporary head, by their names in a linear layer."""


def cut(names: Iterable[str], settings: ProgfedSettings) -> list[list[str]]:
    """The names of each block, then those of the head; buffers may be named as they travel.

    A piece is a child of an `nn.Sequential` or an element of a list of modules: names up to their first number, or else
    up to their first dot. Raises: `bad-spec` (a block or head without arrays).
    """
    given = {own_name(name): name for name in names}
    # A buffer of the model itself, of none of its pieces, goes with the head.
    ordered = [name for name in given if "." in name or not is_buffer(given[name])]
    stages = settings.stages
    if stages == "auto":
        owner = _by_decoder(ordered) if settings.growth == "asymmetric" else _by_piece(ordered, None)
        blocks = max(owner.values(), default=0)
    else:
        named = [item for item in stages if isinstance(item, tuple)]
        ends = [item for item in stages if isinstance(item, int)]
        owner = {name: _by_prefix(name, named) for name in ordered} if named else _by_piece(ordered, ends)
        blocks = len(stages)
    found: list[list[str]] = [[] for _ in range(blocks + 1)]
    for name in ordered:
        found[owner[name]].append(given[name])
    found[-1] += [given[name] for name in given if name not in owner]
    if not blocks or not all(found):
        raise CodecError("bad-spec", f"stages {stages!r} leave a block or the head without arrays")
    return found


def _by_prefix(name: str, stages: Sequence[tuple[str, ...]]) -> int:
    for index, prefixes in enumerate(stages):
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes):
            return index
    return len(stages)


def _by_piece(names: Iterable[str], ends: Sequence[int] | None) -> dict[str, int]:
    """`ends`: behind which piece each block ends; None: every piece is a block, the last one the head."""
    pieces = {name: _piece(name) for name in names}
    positions = _positions(pieces.values())
    chosen = sorted(set(positions.values()))[1:] if ends is None else ends
    return {name: bisect_right(chosen, positions[piece]) for name, piece in pieces.items()}


def _by_decoder(names: Iterable[str]) -> dict[str, int]:
    """A U-Net whose arrays are named `...LEVEL.encoder...`, `decoder` and `up`, level 0 outermost: the whole encoder,
    then decoders from the innermost on, each with the way up to it; all else is the head.
    """
    levels: dict[str, int | None] = {}
    for name in names:
        match = re.search(r"(\d+)\.(encoder|decoder|up)\.", name)
        if match is None:
            levels[name] = -1
        elif match[2] == "encoder":
            levels[name] = None
        else:
            levels[name] = int(match[1]) - (match[2] == "up")
    innermost = max((level for level in levels.values() if level is not None), default=-1)
    return {name: 0 if level is None else 1 + innermost - level for name, level in levels.items()}


def _piece(name: str) -> str:
    parts = name.split(".")
    first = next((index for index, part in enumerate(parts) if part.isdecimal()), 0)
    return ".".join(parts[: first + 1])


def _positions(pieces: Iterable[str]) -> dict[str, int]:
    """Children of a Sequential stand at their own index, since some of them have no arrays; others in their order."""
    distinct = list(dict.fromkeys(pieces))
    if all(piece.isdecimal() for piece in distinct):
        return {piece: int(piece) for piece in distinct}
    return {piece: index for index, piece in enumerate(distinct)}


def head_shape(
    shapes: Mapping[str, tuple[int, ...]], blocks: list[list[str]], stage: int, settings: ProgfedSettings
) -> tuple[int, ...]:
    """Of the weight of the temporary head of `stage` (from 1): outputs, then inputs. What the settings do not say is
    read off the last array of the block, and of the model: right for layers with a bias, and for most without.
    """
    width = settings.head_widths[stage - 1] if settings.head_widths else _ends_in(blocks[stage - 1], shapes)
    outputs = settings.outputs or _ends_in(blocks[-1], shapes)
    return (outputs, width, 1, 1) if settings.growth == "asymmetric" else (outputs, width)


def _ends_in(names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The first dimension of the last array that is trained, where any is."""
    trained = [name for name in names if not is_buffer(name) and shapes[name]]
    return (shapes[(trained or names)[-1]] or (1,))[0]


def temporary_head(model: Arrays, blocks: list[list[str]], stage: int, settings: ProgfedSettings, seed: int) -> Arrays:
    """The first arrays of the head of `stage` (from 1), float32: as torch draws a linear layer's, by our generator.

    For a U-Net that grows asymmetrically the layer is a convolution of one position.
    """
    shape = head_shape({name: array.shape for name, array in model.items()}, blocks, stage, settings)
    outputs, width = shape[:2]
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, stage], np.uint64)))
    bound = 1 / np.sqrt(width)
    drawn: dict[str, Array] = {
        TEMPORARY["weight"]: generator.uniform(-bound, bound, shape).astype(np.float32),
        TEMPORARY["bias"]: generator.uniform(-bound, bound, outputs).astype(np.float32),
    }
    return drawn
