"""Knowledge per example: the server keeps everybody's logits and sends each client those of related examples."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs import Array, Arrays, ArraySpec, CodecError, Open, Spec
from thinwire.methods.fd_alu import FdAluSettings
from thinwire.methods.fd_alu.knowledge import Knowledge
from thinwire.methods.reducers import Bounds
from thinwire.methods.server_half import RunFacts
from thinwire.methods.values import Contribution

Answers = dict[str, Arrays]
"""By client."""
_BLOCK: Final = 512


def related_samples(hashes: NDArray[np.int8], labels: Array, count: int) -> NDArray[np.int32]:
    """For each example the `count` others of its class with the most similar hashes, nearest first; (N, count), -1
    where there are fewer.

    Similar by cosine, exact: products of hashes are integers; equals in the order of their indices.
    """
    # Up to 1,024 dimensions float32 holds every product exactly, in any order of summation, and is fast.
    vectors: Array = hashes.astype(np.float32 if hashes.shape[1] * 128 * 128 <= 1 << 24 else np.float64)
    norms = np.sqrt(np.maximum(np.square(vectors.astype(np.float64)).sum(1), 1))
    found = np.full((len(hashes), count), -1, np.int32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        wanted = min(count, len(members) - 1)
        if wanted < 1:
            continue
        theirs = vectors[members]
        for start in range(0, len(members), _BLOCK):
            rows = members[start : start + _BLOCK]
            # The row's own norm changes no order.
            similar = (vectors[rows] @ theirs.T).astype(np.float64) / norms[members]
            similar[np.arange(len(rows)), start + np.arange(len(rows))] = -np.inf
            least = np.partition(similar, -wanted, 1)[:, -wanted]
            for row, line, bound in zip(rows, similar, least, strict=True):
                near = np.flatnonzero(line >= bound)
                order = np.argsort(-line[near], kind="stable")[:wanted]
                found[row, :wanted] = members[near[order]]
    return found


@dataclass(frozen=True, slots=True)
class Cache:
    """N examples of all clients that have answered. `names`: of the clients; `owner`, i32 (N,), index into them;
    `hashes`, i8 (N, d); `labels`, u16 (N,); `logits`, f32 (N, C); `related`, i32 (N, R), see `related_samples`.

    A client's examples stand together, in its own order; clients in the order of their first exchange, then by name.
    """

    names: tuple[str, ...]
    owner: NDArray[np.int32]
    hashes: NDArray[np.int8]
    labels: NDArray[np.uint16]
    logits: NDArray[np.float32]
    related: NDArray[np.int32]

    @staticmethod
    def of(arrays: Arrays) -> Cache:
        text = arrays["names"].tobytes().decode()
        names = tuple(text.split("\n")) if text else ()
        return Cache(names, *(arrays[name] for name in ("owner", "hashes", "labels", "logits", "related")))

    def arrays(self) -> Arrays:
        return {
            "names": np.frombuffer("\n".join(self.names).encode(), np.uint8),
            "owner": self.owner,
            "hashes": self.hashes,
            "labels": self.labels,
            "logits": self.logits,
            "related": self.related,
        }

    def of_client(self, client: str) -> NDArray[np.int64]:
        """The indices of its examples."""
        index = self.names.index(client) if client in self.names else -1
        return np.flatnonzero(self.owner == index)

    def with_answers(self, answers: Answers) -> Cache:
        """With the latest logits; clients that are new join, and those that send hashes again join anew: their examples
        are others. An answer that does not fit its client's examples, or comes without hashes from a client that is not
        known, changes nothing.
        """
        if any("hashes" in answers[client] for client in self.names if client in answers):
            return self._without([name for name in self.names if "hashes" in answers.get(name, {})]).with_answers(
                answers
            )
        logits = self.logits.copy()
        new = []
        for client in sorted(answers):
            answer = answers[client]
            if client not in self.names:
                new += [client] if "hashes" in answer else []
                continue
            mine = self.of_client(client)
            if len(mine) == len(answer["logits"]):
                logits[mine] = answer["logits"]
        if not new:
            return replace(self, logits=logits)
        sizes = [len(answers[client]["labels"]) for client in new]
        joining = np.arange(len(self.names), len(self.names) + len(new), dtype=np.int32)
        hashes = np.concatenate([self.hashes, *(answers[client]["hashes"] for client in new)])
        labels = np.concatenate([self.labels, *(answers[client]["labels"] for client in new)])
        return Cache(
            (*self.names, *new),
            np.concatenate([self.owner, np.repeat(joining, sizes)]),
            hashes,
            labels,
            np.concatenate([logits, *(answers[client]["logits"].astype(np.float32) for client in new)]),
            related_samples(hashes, labels, self.related.shape[1]),
        )

    def _without(self, clients: Collection[str]) -> Cache:
        """Before anybody is related to those who come in their place."""
        names = tuple(name for name in self.names if name not in clients)
        stays = np.isin(self.owner, [index for index, name in enumerate(self.names) if name in names])
        places = np.cumsum([name in names for name in self.names], dtype=np.int32) - 1
        return Cache(
            names, places[self.owner[stays]], self.hashes[stays], self.labels[stays], self.logits[stays],
            self.related[stays],
        )  # fmt: skip

    def teachers(self, client: str) -> Arrays | None:
        """For this client's examples: `known`, bool (n,), whether any is related, and of those the mean logits of the
        related ones, `logits`, f32 (m, C). None for a client without examples here.
        """
        if client not in self.names:
            return None
        related = self.related[self.of_client(client)]
        there = related >= 0
        sums = np.zeros((len(related), self.logits.shape[1]))
        # One by one: the same order of additions on every machine.
        for column, exists in zip(related.T, there.T, strict=True):
            sums += np.where(exists[:, None], self.logits[column], 0.0)
        known = there.any(1)
        means = sums[known] / there.sum(1)[known, None]
        return {"known": known, "logits": means.astype(np.float32)}


class Collected:
    """The answers themselves, by client: what is kept of each cannot be summed.

    Answers: `logits`, f32 (n, C), of a client's examples in its own order; with its first one `hashes`, i8 (n, d), and
    `labels`, u16 (n,).
    """

    # Its totals are copies, small beside a model.
    keeps = False

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def check(self, contribution: Contribution) -> Contribution:
        """Raises: `does-not-fit` (not one hash and label for each example, unknown class), `out-of-range`."""
        arrays = contribution.arrays
        count, classes = arrays["logits"].shape
        if ("hashes" in arrays) != ("labels" in arrays):
            raise CodecError("does-not-fit", "hashes come with labels")
        if "labels" in arrays and not len(arrays["hashes"]) == len(arrays["labels"]) == count:
            raise CodecError("does-not-fit", f"{count} examples do not have one hash and one label each")
        if "labels" in arrays and count and int(arrays["labels"].max()) >= classes:
            raise CodecError("does-not-fit", f"array 'labels' names a class beyond {classes - 1}")
        if not (np.abs(arrays["logits"]) <= self._bounds.value).all():
            raise CodecError(
                "out-of-range", f"array 'logits' holds a value that is not within +-{self._bounds.value:g}"
            )
        return contribution

    def zero(self) -> Answers:
        return {}

    def add(self, total: Answers, contribution: Contribution) -> Answers:
        # Copies: the arrays may be views into a file that goes away.
        total[contribution.client] = {name: array.copy() for name, array in contribution.arrays.items()}
        return total

    def merge(self, first: Answers, second: Answers) -> Answers:
        first.update(second)
        return first


class SampleCache(Knowledge):
    """State: that of `Cache`. Nothing is broadcast; every client has a part of its own."""

    def __init__(self, settings: FdAluSettings, facts: RunFacts) -> None:
        super().__init__(settings, facts)
        self.reducer = Collected(facts.bounds)

    def first(self, classes: int) -> Arrays:
        return Cache(
            (),
            np.zeros(0, np.int32),
            np.zeros((0, self.settings.hash_dims), np.int8),
            np.zeros(0, np.uint16),
            np.zeros((0, classes), np.float32),
            np.zeros((0, self.settings.related), np.int32),
        ).arrays()

    def parts(self, arrays: Arrays) -> Mapping[str, Arrays]:
        return {}

    def reply(self, arrays: Arrays) -> Spec:
        most = Open(self.facts.bounds.examples)
        return Spec(
            {
                "logits": ArraySpec("f32", (most, arrays["logits"].shape[1])),
                "hashes": ArraySpec("i8", (most, self.settings.hash_dims), optional=True),
                "labels": ArraySpec("u16", (most,), optional=True),
            }
        )

    def after(self, arrays: Arrays, total: Answers) -> Arrays:
        return Cache.of(arrays).with_answers(total).arrays()

    def private(self, arrays: Arrays, client: str) -> Arrays | None:
        return Cache.of(arrays).teachers(client)
