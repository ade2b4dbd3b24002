"""Settings of codecs that change over a run: `2..6` is 2 in the first round, 6 in the last one, and evenly between."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .errors import CodecError
from .interface import ArrayCodec, Context
from .spec import Arrays, Spec

_NUMBER: Final = r"(\d{1,6}(?:\.\d{1,6})?)"
_RANGE: Final = re.compile(rf"{_NUMBER}\.\.{_NUMBER}")


@dataclass(frozen=True, slots=True)
class Scheduled(ArrayCodec):
    """A codec of which a setting changes; it codes nothing itself: `at` gives the one that is in force.

    What is in force follows from the round and the number of rounds, which both ends know, so nothing is sent of it:
    first + (last - first) (round - 1) / (rounds - 1), of whole numbers the nearest one, of two the upper. Between two
    numbers that a codec takes it takes all.
    """

    name: str  # type: ignore[misc]  # of the codec, which every other one knows as its class's
    kind: type[ArrayCodec]
    settings: tuple[tuple[str, Any], ...]

    @staticmethod
    def of(name: str, kind: type[ArrayCodec], plain: Mapping[str, Any]) -> Scheduled:
        """Raises: `bad-chain` where either end is none that the codec takes."""
        made = Scheduled(name, kind, tuple(plain.items()))
        made.at(1, 2)
        made.at(2, 2)
        return made

    def configuration(self) -> Mapping[str, Any]:
        return dict(self.settings)

    def at(self, round_: int, rounds: int) -> ArrayCodec:
        return self.kind(**{setting: _in_force(value, round_, rounds) for setting, value in self.settings})

    def encoded_spec(self, spec: Spec) -> Spec:
        raise self._unknown()

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        raise self._unknown()

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        raise self._unknown()

    def _unknown(self) -> CodecError:
        return CodecError("bad-chain", f"{self.name} changes over the run; which round it is has not been said")


def changes(value: object) -> bool:
    """Whether a setting is written as one that changes."""
    return isinstance(value, str) and _RANGE.fullmatch(value) is not None


def _in_force(value: Any, round_: int, rounds: int) -> Any:
    found = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    first, last = found.groups()
    # An evaluation follows the last round.
    gone, whole = (min(round_, rounds) - 1, rounds - 1) if rounds > 1 else (1, 1)
    if "." in first or "." in last:
        return float(first) + (float(last) - float(first)) * gone / whole
    return int(first) + (2 * (int(last) - int(first)) * gone + whole) // (2 * whole)
