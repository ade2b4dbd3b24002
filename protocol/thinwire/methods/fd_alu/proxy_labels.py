"""Knowledge on a public proxy set: soft labels of examples drawn from a seed that all know."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs import Array, Arrays, ArraySpec, CodecError, Spec
from thinwire.methods.fd_alu import FdAluSettings
from thinwire.methods.fd_alu.knowledge import Knowledge
from thinwire.methods.reducers import Bounds
from thinwire.methods.server_half import RunFacts
from thinwire.methods.sums import ExactSum, Total
from thinwire.methods.values import Contribution, Task

Totals = dict[bytes, Total]
"""By the digest that the answers named, b"" for none."""
_GRID = 1 << 24
_SURE = 4.0
"""Times the scores of a model that knows little: those of one that is sure."""


def digest_of(inputs: Array) -> NDArray[np.uint64]:
    """What identifies a proxy set: SHA-256 over dtype, shape and elements, as four numbers."""
    found = hashlib.sha256(f"{inputs.dtype.str}{inputs.shape}".encode())
    found.update(np.asarray(inputs, order="C").data)
    return np.frombuffer(found.digest(), "<u8")


def drawn(size: int, count: int, seed: int, round_: int) -> NDArray[np.int64]:
    """The proxy examples of the exchange that ends with this local round: `count` of `size`, in ascending order.

    `seed`: of the run. Nothing of it is sent but the seed.
    """
    return np.sort(np.random.default_rng([seed, round_]).permutation(size)[:count]).astype(np.int64)


def sharpened(labels: NDArray[np.float64], settings: FdAluSettings) -> NDArray[np.float64]:
    """Rows of probabilities with less entropy than the averages `labels`.

    `era`: softmax(p / T), DS-FL. `enhanced-era`: p**a / sum p**a, SCARLET. Rounded to multiples of 2**-24:
    exponentials of two C libraries need not agree in the last bit.
    """
    if settings.sharpening == "none":
        return labels
    if settings.sharpening == "era":
        found = np.exp((labels - labels.max(1, keepdims=True)) / settings.era_temperature)
    else:
        found = (labels / labels.max(1, keepdims=True)) ** settings.era_exponent
    rounded: NDArray[np.float64] = np.rint(found / found.sum(1, keepdims=True) * _GRID) / _GRID
    return rounded


class LabelSum:
    """Sums of soft labels, one for each proxy set that answers name: those of another set are of no use.

    Answers: `labels`, floating (n, C), rows of probabilities; `set`, u64 (4,), in a client's first answer. Where only
    some are sent, `labels` (m, C) are theirs and `sent`, bool (n,), tells which. Summed: `labels` (n, C), and `sent`.
    """

    keeps = False

    def __init__(self, bounds: Bounds) -> None:
        self.of_labels = ExactSum(Bounds(bounds.clients, 1, 1.0), "uniform")

    def check(self, contribution: Contribution) -> Contribution:
        """Raises: `out-of-range` (rows that are no distributions, or of other examples than are named)."""
        labels, sent = contribution.arrays["labels"], contribution.arrays.get("sent")
        if sent is not None and np.count_nonzero(sent) != len(labels):
            raise CodecError("out-of-range", f"array 'sent' names {np.count_nonzero(sent)} of {len(labels)} labels")
        if not ((labels >= 0).all() and (np.abs(labels.sum(1, dtype=np.float64) - 1) < 1e-2).all()):
            raise CodecError("out-of-range", "array 'labels' has a row that is no distribution")
        return contribution

    def zero(self) -> Totals:
        return {}

    def add(self, total: Totals, contribution: Contribution) -> Totals:
        arrays = contribution.arrays
        key = arrays["set"].tobytes() if "set" in arrays else b""
        held = {name: arrays[name] for name in ("labels", "sent") if name in arrays}
        if "sent" in held:
            held["labels"] = np.zeros((len(held["sent"]), arrays["labels"].shape[1]), arrays["labels"].dtype)
            held["labels"][held["sent"]] = arrays["labels"]
        labels = Contribution(contribution.slot, contribution.client, 1, held)
        total[key] = self.of_labels.add(total.get(key, self.of_labels.zero()), labels)
        return total

    def merge(self, first: Totals, second: Totals) -> Totals:
        for key, summed in second.items():
            first[key] = self.of_labels.merge(first.get(key, self.of_labels.zero()), summed)
        return first


class ProxyLabels(Knowledge):
    """State: `labels`, f32 (n, C), the sharpened average of the last exchange, zeros where nobody sent one;
    `proxy_set`, u64 (4,), which proxy set they are of, zeros as long as nothing is known.
    """

    reducer: LabelSum

    def __init__(self, settings: FdAluSettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self.reducer = LabelSum(facts.bounds)

    def first(self, classes: int) -> Arrays:
        shape, nothing = (self.settings.proxy_samples, classes), 0 if self.settings.sends_some else 1 / classes
        return {"labels": np.full(shape, nothing, np.float32), "proxy_set": np.zeros(4, np.uint64)}

    def parts(self, arrays: Arrays) -> Mapping[str, Arrays]:
        """Two, so that the one which never changes is sent once. Labels that nobody sent travel too, as uniform ones:
        with the shape the plan would change, which all would fetch.
        """
        labels = arrays["labels"]
        knowledge = {"labels": labels}
        if self.settings.sends_some:
            known: NDArray[np.bool_] = np.any(labels, axis=1)
            uniform = np.float32(1 / labels.shape[1])
            knowledge = {"labels": np.where(known[:, None], labels, uniform), "known": known}
        return {"knowledge": knowledge, "proxy": {"proxy_set": arrays["proxy_set"]}}

    def reply(self, arrays: Arrays) -> Spec:
        count, classes = arrays["labels"].shape
        some = {"sent": ArraySpec("bool", (count,))} if self.settings.sends_some else {}
        return Spec(
            {
                "labels": ArraySpec("f32", (self.settings.labels_sent, classes)),
                **some,
                "set": ArraySpec("u64", (4,), optional=True),
            }
        )

    def specimen(self, task: Task, rng: np.random.Generator, *, dense: bool) -> Arrays:
        """Labels of a model that is sure, or knows little; the first ones say of which set they are."""
        shape = task.reply["labels"].max_shape
        odds = np.exp((1 if dense else _SURE) * rng.standard_normal(shape))
        found: dict[str, Array] = {"labels": (odds / odds.sum(1, keepdims=True)).astype(np.float32)}
        if self.settings.sends_some:
            found["sent"] = rng.permutation(self.settings.proxy_samples) < shape[0]
        if not task.parts["proxy"]["proxy_set"].any():
            found["set"] = np.ones(4, np.uint64)
        return found

    def after(self, arrays: Arrays, total: Totals) -> Arrays:
        """Answers of another proxy set than the run's are left out; the first exchange decides which that is."""
        proxy_set, decided = arrays["proxy_set"], bool(arrays["proxy_set"].any())
        if not decided:
            named = {key: summed.count for key, summed in total.items() if key}
            if not named:
                return arrays
            proxy_set = np.frombuffer(min(named, key=lambda key: (-named[key], key)), "<u8")
        # Whoever knew which set it is, and took part, has that one.
        keys = [proxy_set.tobytes(), *([b""] if decided else [])]
        summed = self.reducer.of_labels.zero()
        for key in keys:
            if key in total:
                summed = self.reducer.of_labels.merge(summed, total[key])
        if not summed.count:
            return arrays
        labels = summed.sum("labels")
        sent = summed.sum("sent") if self.settings.sends_some else np.full(len(labels), summed.count)
        known = sent > 0
        labels[known] = sharpened(labels[known] / sent[known, None], self.settings)
        return {"labels": labels.astype(np.float32), "proxy_set": proxy_set}
