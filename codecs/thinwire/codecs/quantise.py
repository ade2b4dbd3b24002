"""`quantise`: floating arrays as integers of few bits on a uniform grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from .blocks import require_finite, slices
from .counter import uniform_blocks
from .errors import CodecError
from .hadamard import rotate, rotate_back, rotated_size
from .interface import ArrayCodec, Context
from .spec import Array, Arrays, ArraySpec, Dimension, Open, Spec

STEPS: Final = "step"
BUNDLE: Final = "quantise/step"
"""The array of the one step of a bundle."""
_DEAD: Final = 0.65
"""What is rounded down of a step, at every level: half of it would be the nearest."""


@dataclass(frozen=True, slots=True)
class Quantise(ArrayCodec):
    """Every floating array as integers q of `bits` bits: x = (q - h) * step, with h = 2**(bits - 1) - 1 and q from
    0 to 2 h.

    So zero is exact. With 1 bit x = (2 q - 1) * step. `step` is the largest |x| divided by h (1 for 1 bit), rounded
    up to a float32: `per` tensor, per index of the first dimension (`channel`), per `block` elements in C order, or the
    same for all arrays (`bundle`: behind `entropy`, what is left of each array's error is then worth as many bits as
    that of any other; the reverse water-filling of T. Cover, J. Thomas, "Elements of Information Theory", 2nd ed.,
    theorem 10.3.3). With `spread`, step is `spread` times the root of the mean square instead, which few large values
    do not move, and values beyond h steps are cut: give bits enough (8), since what `entropy` makes of them follows
    the step alone.
    `rounding`: `stochastic`, up with the probability of the fraction: unbiased, error below one step; or `nearest`:
    error at most step / 2 (to which float32 adds 2**-24 |x|); with 1 bit, the sign; or `deadzone`: towards zero, from
    .65 of a step on away from it: error at most .65 step, and a quarter fewer bits behind `entropy` for the same square
    error where most values are below a step (G. Sullivan, "Efficient scalar quantization of exponential and Laplacian
    random variables", IEEE Trans. Information Theory 42 (5), 1996). `rotate`: a randomised
    Hadamard rotation first (`hadamard`), for arrays with few large values; per tensor or block. The randomness
    comes from `counter` with `context.seed` and the array's name, so equal inputs give equal bytes.

    Layout: `w` becomes `w`, `u8` (`u16` above 8 bits) of the same shape, or (n',) where rotated, and `w/step`,
    `f32`: (), (channels,) or (blocks,); with `bundle` one `quantise/step` behind all arrays. A byte per value until
    `entropy` follows. Arrays without elements have step 0. Cost: 10 ns per value. Source: D. Alistarh et al., "QSGD:
    Communication-Efficient SGD via Gradient Quantization and Encoding", NIPS 2017, section 3.1, with the largest value
    for the norm.
    """

    name: ClassVar[str] = "quantise"

    bits: int = 8
    per: Literal["bundle", "tensor", "channel", "block"] = "tensor"
    block: int = 1024
    rounding: Literal["stochastic", "nearest", "deadzone"] = "stochastic"
    rotate: bool = False
    spread: float = 0.0

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 1 <= self.bits <= 16:
            raise CodecError("bad-chain", f"quantise takes 1 to 16 bits, not {self.bits!r}")
        if self.per not in ("bundle", "tensor", "channel", "block"):
            raise CodecError("bad-chain", f"quantise: per is bundle, tensor, channel or block, not {self.per!r}")
        if type(self.block) is not int or not 1 <= self.block <= 1 << 30:
            raise CodecError("bad-chain", f"quantise: block is a number of elements, not {self.block!r}")
        if self.rounding not in ("stochastic", "nearest", "deadzone"):
            raise CodecError(
                "bad-chain", f"quantise: rounding is stochastic, nearest or deadzone, not {self.rounding!r}"
            )
        if self.rounding == "deadzone" and self.bits == 1:
            raise CodecError("bad-chain", "quantise: one bit has no zero, so no dead zone around it")
        if type(self.spread) not in (int, float) or not 0 <= self.spread <= 1000:
            raise CodecError("bad-chain", f"quantise: spread is a number from 0 to 1000, not {self.spread!r}")
        if type(self.rotate) is not bool or (self.rotate and self.per in ("bundle", "channel")):
            raise CodecError("bad-chain", "quantise: rotate is true or false, and goes with tensor or block")

    @property
    def half(self) -> int:
        """h: how many steps reach the largest value."""
        return max(1, (1 << (self.bits - 1)) - 1)

    @property
    def largest(self) -> int:
        """The largest q."""
        return 1 if self.bits == 1 else 2 * self.half

    def encoded_spec(self, spec: Spec) -> Spec:
        """Raises: `bad-spec` (names that collide; rotation of an array with an open dimension)."""
        items: list[tuple[str, ArraySpec]] = []
        for name, item in spec.items():
            if not item.is_floating:
                items.append((name, item))
                continue
            if self.rotate and not item.is_closed:
                raise CodecError("bad-spec", f"quantise: array {name!r} has an open dimension and cannot be rotated")
            shape = (rotated_size(item.max_elements),) if self.rotate else item.shape
            items.append((name, ArraySpec("u8" if self.bits <= 8 else "u16", shape, item.optional)))
            if self.per != "bundle":
                items.append((f"{name}/{STEPS}", ArraySpec("f32", self._steps_shape(item), item.optional)))
        if self.per == "bundle" and any(item.is_floating for item in spec.values()):
            items.append((BUNDLE, ArraySpec("f32")))
        return Spec(items)

    def _steps_shape(self, item: ArraySpec) -> tuple[Dimension, ...]:
        if self.per == "channel" and item.shape:
            return item.shape[:1]
        if self.per == "block":
            elements = rotated_size(item.max_elements) if self.rotate else item.max_elements
            blocks = -(-elements // self.block)
            return (blocks if item.is_closed else Open(blocks),)
        return ()

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `out-of-range` (not finite)."""
        encoded: dict[str, Array] = {}
        common = self._common(arrays, context.spec) if self.per == "bundle" else None
        for name, array in arrays.items():
            if not context.spec[name].is_floating:
                encoded[name] = array
                continue
            require_finite(name, array)
            shape = array.shape
            if self.rotate:
                array = rotate(array.reshape(-1).astype(np.float32), context.seed, name)
                require_finite(name, array)
                shape = array.shape
            steps = self._steps(name, array) if common is None else common
            encoded[name] = self._rounded(name, array.reshape(-1), steps.reshape(-1), context.seed).reshape(shape)
            if common is None:
                encoded[f"{name}/{STEPS}"] = steps
        if common is not None and any(item.is_floating for item in context.spec.values()):
            encoded[BUNDLE] = common
        return encoded

    def _grid(self, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """How many elements in a row share a step, and the shape of the steps."""
        size = math.prod(shape)
        if self.per == "block":
            return self.block, (-(-size // self.block),)
        if self.per == "channel" and shape:
            return max(1, size // max(1, shape[0])), shape[:1]
        return max(1, size), ()

    def _common(self, arrays: Arrays, spec: Spec) -> NDArray[np.float32]:
        """The step of all arrays: the largest value or the square mean of all of them."""
        found = [array.reshape(-1) for name, array in arrays.items() if spec[name].is_floating and array.size]
        if self.spread:
            square = math.fsum(
                float(np.square(flat[part].astype(np.float64)).sum()) for flat in found for part in slices(len(flat))
            )
            exact = _eleven_bits(np.asarray(self.spread * math.sqrt(square / max(1, sum(map(len, found))))))
        else:
            exact = np.asarray(max((float(np.abs(flat).max()) for flat in found), default=0.0) / self.half)
        return self._narrow("bundle", exact)

    def _steps(self, name: str, array: Array) -> NDArray[np.float32]:
        run, shape = self._grid(array.shape)
        exact = np.zeros(math.prod(shape))
        begins = np.arange(0, array.size, run)
        if array.size and self.spread:
            squares = np.add.reduceat(np.square(array.reshape(-1), dtype=np.float64), begins)
            means = squares / np.diff(np.append(begins, array.size))
            exact[:] = _eleven_bits(self.spread * np.sqrt(means))
        elif array.size:
            exact[:] = np.maximum.reduceat(np.abs(array.reshape(-1)), begins)
            exact /= self.half
        return self._narrow(name, exact).reshape(shape)

    def _narrow(self, name: str, exact: Array) -> NDArray[np.float32]:
        """Rounded up. Raises: `out-of-range`."""
        with np.errstate(over="ignore"):
            steps = exact.astype(np.float32)
            steps = np.where(steps < exact, np.nextafter(steps, np.float32(np.inf)), steps)
            if not np.isfinite(steps * np.float32(self.half)).all():
                raise CodecError("out-of-range", f"array {name!r} holds a value beyond float32")
        return np.asarray(steps, np.float32)

    def _rounded(self, name: str, flat: Array, steps: NDArray[np.float32], seed: int) -> Array:
        codes = np.empty(flat.size, np.uint8 if self.bits <= 8 else "<u2")
        inverse = np.divide(1.0, steps, out=np.zeros(len(steps)), where=steps > 0, dtype=np.float64)
        random = uniform_blocks(seed, name, flat.size) if self.rounding == "stochastic" else None
        run = self.block if self.per == "block" else max(1, flat.size // max(1, len(steps)))
        for part in slices(flat.size):
            scaled = flat[part].astype(np.float64)
            scaled *= inverse[np.arange(part.start, part.stop) // run] if len(steps) > 1 else inverse[0]
            if self.bits == 1:
                scaled *= 0.5
                scaled += 0.5
            elif self.rounding == "deadzone":
                scaled += np.copysign(1 - _DEAD, scaled)
                np.trunc(scaled, out=scaled)
                scaled += self.half
            else:
                scaled += self.half
            if random is None:
                np.rint(scaled, out=scaled)
            else:
                scaled += next(random) * 2.0**-32
                np.floor(scaled, out=scaled)
            codes[part] = np.clip(scaled, 0, self.largest)
        return codes

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `malformed`, `does-not-fit`, `out-of-range`."""
        decoded: dict[str, Array] = {}
        for name, item in context.spec.items():
            codes = arrays.get(name)
            if codes is None or not item.is_floating:
                if item.is_floating and self.per != "bundle" and f"{name}/{STEPS}" in arrays:
                    raise CodecError("does-not-fit", f"array {name!r} comes without its values")
                if codes is not None:
                    decoded[name] = codes
                continue
            steps = arrays.get(BUNDLE if self.per == "bundle" else f"{name}/{STEPS}")
            if steps is None:
                raise CodecError("does-not-fit", f"array {name!r} comes without its steps")
            decoded[name] = self._decode(name, codes, steps, item, context.seed)
        return decoded

    def _decode(self, name: str, codes: Array, steps: Array, item: ArraySpec, seed: int) -> Array:
        flat, grid = codes.reshape(-1), steps.reshape(-1)
        run, shape = self._grid(codes.shape)
        if steps.shape != shape:
            raise CodecError("does-not-fit", f"array {name!r} has {len(grid)} steps, not {math.prod(shape)}")
        with np.errstate(over="ignore", invalid="ignore"):
            if not (np.isfinite(grid * np.float32(self.half)).all() and (grid >= 0).all()):
                raise CodecError("out-of-range", f"array {name!r} has a step that is no length")
        if flat.size and int(flat.max()) > self.largest:
            raise CodecError("malformed", f"array {name!r} holds {int(flat.max())}, above {self.largest}")
        kept = np.float32 if self.rotate else item.numpy_dtype
        values = np.empty(flat.size, kept)
        with np.errstate(over="ignore"):
            for part in slices(flat.size):
                whole = flat[part].astype(np.float32)
                whole = whole * np.float32(2) - np.float32(1) if self.bits == 1 else whole - np.float32(self.half)
                whole *= grid[np.arange(part.start, part.stop) // run] if len(grid) > 1 else grid[0]
                values[part] = whole
        if self.rotate:
            with np.errstate(over="ignore", invalid="ignore"):
                values = rotate_back(values, item.max_elements, seed, name).astype(item.numpy_dtype)
        require_finite(name, values)
        return values.reshape(item.max_shape if self.rotate else codes.shape)


def _eleven_bits(steps: Array) -> Array:
    """Rounded: squares that are added up in another order, on another machine, give the same step."""
    fractions, exponents = np.frexp(steps)
    return np.asarray(np.ldexp(np.rint(fractions * 2048), exponents - 11))
