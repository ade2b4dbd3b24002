"""`entropy`: bits and small integers at about their entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .entropy_bits import BITS, MASKS, Known, coded_bits, coded_bits_items, decode_bits, encode_bits
from .entropy_symbols import SYMBOLS, Adaptation, coded_symbols, coded_symbols_item, decode_symbols, encode_symbols
from .errors import CodecError
from .interface import ArrayCodec, Context
from .spec import Arrays, Spec


@dataclass(frozen=True, slots=True)
class Entropy(ArrayCodec):
    """All `bool` arrays of the bundle as one string of coded bits, all `u8` and `u16` arrays as one of coded
    symbols; lossless.

    `condition` names what both ends know of an element: `counts`: of a bool, `context.reference[name]`, an integer
    array of the same shape (j, how many masks of the last exchange had a one there); `previous`: of a u8,
    `context.reference[name]`, the u8 before it; `adaptive`: of a u8, what has been coded so far, of its row, its
    column and its array, so that no table is sent: for quantised matrices and convolutions, whose sizes go by rows and
    columns, and for small arrays. `sampling`: with `counts`, a bool was drawn as u < theta with u from
    `counter.uniform_bits(context.seed, name, n)`, so the bin of u is known as well; with `adaptive`, a u8 was rounded
    up by that u, as `quantise` does, so it is known which threshold its fraction passed, or did not. Where the
    reference is missing, and wherever it is shorter, each array has one distribution, or none: what is sent is the
    shortest of all candidates, at most 1 bit of a bool, at most ceil(log2(largest + 1)) of a symbol.

    Layout: codecs/README.md. Cost: about 10 ns per bool and 50 ns per symbol each way, 8 bytes of memory per
    element; `adaptive` twice that time, and 30 bytes. The models are integers: the same bytes and the same arrays on
    every machine. Source: `rans`, `gaps`, `adaptive`; seeded sampling is ours.
    """

    name: ClassVar[str] = "entropy"
    lossless: ClassVar[bool] = True

    condition: Literal["", "counts", "previous", "adaptive"] = ""
    sampling: bool = False

    def __post_init__(self) -> None:
        if self.condition not in ("", "counts", "previous", "adaptive"):
            raise CodecError(
                "bad-chain", f"entropy knows the conditions counts, previous and adaptive, not {self.condition!r}"
            )
        if type(self.sampling) is not bool or (self.sampling and self.condition not in ("counts", "adaptive")):
            raise CodecError(
                "bad-chain", "entropy: sampling is true or false, and true with the conditions counts and adaptive only"
            )

    @property
    def needs_reference(self) -> bool:
        """With `previous`: of a broadcast, whoever lacks the base gets another form. Encoding works without all the
        same.
        """
        return self.condition == "previous"

    def encoded_spec(self, spec: Spec) -> Spec:
        """Raises: `bad-spec` (an array is named like one of ours)."""
        if not {BITS, MASKS, SYMBOLS}.isdisjoint(spec):
            raise CodecError("bad-spec", f"entropy: the names {BITS}, {MASKS} and {SYMBOLS} are its own")
        bits, symbols = coded_bits(spec), coded_symbols(spec)
        items = [(name, item) for name, item in spec.items() if name not in bits and name not in symbols]
        if bits:
            items += coded_bits_items(bits)
        if symbols:
            items.append(coded_symbols_item(symbols))
        return Spec(items)

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        bits, symbols = coded_bits(context.spec), coded_symbols(context.spec)
        encoded = {name: array for name, array in arrays.items() if name not in bits and name not in symbols}
        if bits:
            chosen = {name: arrays[name] for name in bits if name in arrays}
            encoded.update(encode_bits(chosen, bits, self._known(context)))
        if symbols:
            chosen = {name: arrays[name] for name in symbols if name in arrays}
            encoded[SYMBOLS] = encode_symbols(chosen, symbols, self._before(context), self._adaptation(context))
        return encoded

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `malformed`, `does-not-fit`, `no-reference`."""
        bits, symbols = coded_bits(context.spec), coded_symbols(context.spec)
        decoded = {name: array for name, array in arrays.items() if name not in (BITS, MASKS, SYMBOLS)}
        if bits:
            decoded.update(decode_bits(arrays, bits, self._known(context)))
        if symbols:
            conditioned, adapts = self.condition == "previous", self._adaptation(context)
            before = self._before(context)
            decoded.update(decode_symbols(arrays[SYMBOLS], symbols, before, adapts, conditioned=conditioned))
        return decoded

    def _known(self, context: Context) -> Known:
        """Of the bits."""
        if self.condition != "counts":
            return Known()
        return Known(context.reference, context.seed if self.sampling else None)

    def _adaptation(self, context: Context) -> Adaptation | None:
        """Of the symbols."""
        if self.condition != "adaptive":
            return None
        return Adaptation(context.seed if self.sampling else None)

    def _before(self, context: Context) -> Arrays | None:
        """The symbols before."""
        return context.reference if self.condition == "previous" else None
