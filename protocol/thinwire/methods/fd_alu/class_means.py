"""Knowledge per class: mean logits over the examples of each class, weighted by their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs import Array, Arrays, ArraySpec, CodecError, Open, Spec
from thinwire.machine.quantities import in_bytes
from thinwire.methods.fd_alu import FdAluSettings
from thinwire.methods.fd_alu.knowledge import Knowledge
from thinwire.methods.reducers import Bounds
from thinwire.methods.server_half import RunFacts
from thinwire.methods.sums import ExactSum, Total
from thinwire.methods.values import Contribution, Task

SMALLEST_SHARE: Final = 100
"""The others' part of a class counts where it is at least one in so many examples: subtracting one's own part from a
mean in 16 bits multiplies its rounding by (all examples) / (theirs).
"""


MOST_BYTES: Final = 1 << 28
"""Of the means of all classes: 8192 of them."""


class ClassSum(ExactSum):
    """Sums of n_kc F_kc and of n_kc, dense over the classes.

    Answers: `owned`, bool (C,); for each owned class in order `counts`, u32, and `rows`, floating (C,) each.
    """

    def __init__(self, bounds: Bounds) -> None:
        # A row enters as n_kc times its values: the same fixed point as values weighted by examples.
        super().__init__(Bounds(bounds.clients, 1, bounds.examples * bounds.value), "uniform")
        self._answers = bounds

    def check(self, contribution: Contribution) -> Contribution:
        """Raises: `does-not-fit` (not one row and count for each owned class), `out-of-range`."""
        arrays = contribution.arrays
        owned, counts, rows = int(arrays["owned"].sum()), arrays["counts"], arrays["rows"]
        if not len(counts) == len(rows) == owned:
            raise CodecError("does-not-fit", f"{len(rows)} rows and {len(counts)} counts for {owned} classes")
        if owned and not 1 <= int(counts.min()) <= int(counts.max()) <= self._answers.examples:
            raise CodecError("out-of-range", f"array 'counts' holds a value beyond 1 to {self._answers.examples}")
        if not (np.abs(rows) <= self._answers.value).all():
            raise CodecError("out-of-range", f"array 'rows' holds a value that is not within +-{self._answers.value:g}")
        return contribution

    def add(self, total: Total, contribution: Contribution) -> Total:
        sums, counts = dense(contribution.arrays)
        summed = {"sums": sums, "counts": counts}
        return super().add(total, Contribution(contribution.slot, contribution.client, 1, summed))


def dense(answer: Arrays) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of an answer: n_kc F_kc, (C, C), exact, and n_kc, (C,); zero for classes that are not owned."""
    owned, rows = answer["owned"], answer["rows"]
    counts = np.zeros(len(owned), np.int64)
    counts[owned] = answer["counts"]
    sums = np.zeros((len(owned), rows.shape[1]))
    sums[owned] = rows.astype(np.float64) * counts[owned, None]
    return sums, counts


def others_means(means: Array, counts: Array, own: Arrays | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean logits over the other clients' examples, (C, C), and of which classes there are any, (C,).

    `means`, `counts`: as broadcast. `own`: this client's answer as decoded, where it is part of these means: then
    (S_c - n_kc F_kc) / (N_c - n_kc) with S_c = N_c means_c; None where it is not.
    """
    everything = counts.astype(np.int64)
    sums = means.astype(np.float64) * everything[:, None]
    left = everything
    if own is not None:
        own_sums, own_counts = dense(own)
        sums, left = sums - own_sums, everything - own_counts
    known = (left >= 1) & (left * SMALLEST_SHARE >= everything)
    return np.where(known[:, None], sums / np.maximum(left, 1)[:, None], 0), known


class ClassMeans(Knowledge):
    """State and broadcast: `means`, f32 (C, C), row c being the mean logits over all examples of class c; `numbers`,
    u32 (C,), of how many, 0 for unknown.
    """

    def __init__(self, settings: FdAluSettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self.reducer = ClassSum(facts.bounds)

    def first(self, classes: int) -> Arrays:
        """Raises: `bad-spec` (more examples than 32 bits count; classes whose means nobody would store)."""
        if (size := 4 * classes**2) > MOST_BYTES:
            raise CodecError(
                "bad-spec",
                f"class knowledge of {classes} classes is {classes} x {classes} numbers, {in_bytes(size)} for each "
                "exchange, here and on every client; take knowledge=proxy, or say how many there are: classes=N",
            )
        if self.facts.bounds.clients * self.facts.bounds.examples >= 1 << 32:
            raise CodecError("bad-spec", "cohort times max-examples must stay below 2**32 for class knowledge")
        return {"means": np.zeros((classes, classes), np.float32), "numbers": np.zeros(classes, np.uint32)}

    def parts(self, arrays: Arrays) -> Mapping[str, Arrays]:
        return {"knowledge": {name: arrays[name] for name in ("means", "numbers")}}

    def reply(self, arrays: Arrays) -> Spec:
        classes = len(arrays["numbers"])
        return Spec(
            {
                "owned": ArraySpec("bool", (classes,)),
                "counts": ArraySpec("u32", (Open(classes),)),
                "rows": ArraySpec("f32", (Open(classes), classes)),
            }
        )

    def specimen(self, task: Task, rng: np.random.Generator, *, dense: bool) -> Arrays:
        """Of one class, or of all."""
        classes = len(task.parts["knowledge"]["numbers"])
        owned = np.arange(classes) < (classes if dense else 1)
        rows = rng.standard_normal((int(owned.sum()), classes)).astype(np.float32)
        return {"owned": owned, "counts": np.full(len(rows), self.settings.min_count, np.uint32), "rows": rows}

    def after(self, arrays: Arrays, total: Total) -> Arrays:
        numbers = total.sums["counts"]
        means = total.sum("sums") / np.maximum(numbers, 1)[:, None]
        return {"means": means.astype(np.float32), "numbers": numbers.astype(np.uint32)}
