"""Who holds which training examples: every client computes its own share from the same seed, without a word to others.

Every rule returns one array of indices per client: not empty, disjoint, together complete, and a function of its
arguments alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def split(
    rule: str,
    labels: NDArray[np.integer] | None,
    owners: NDArray[np.generic] | None,
    clients: int,
    count: int,
    seed: int,
) -> list[Indices]:
    """The indices of each client's training examples, each sorted.

    `rule`: `iid`; `dirichlet:ALPHA`, each class shared out in proportions from Dirichlet(ALPHA) (Hsu, Qi, Brown 2019,
    arXiv 1909.06335); `classes:K`, each client holds examples of K classes (after McMahan et al. 2017, with equal
    numbers of owners instead of shards); `natural`, by `owners`, whole owners to each client. `labels`, `owners`: of
    the `count` examples; labels are None where targets are not classes.

    Raises: `ValueError` for an unknown rule or one that these data cannot follow.
    """
    kind, argument = parse_rule(rule)
    if not 1 <= clients <= count:
        raise ValueError(f"{count} examples cannot be shared among {clients} clients")
    rng = np.random.default_rng([seed, clients])
    try:
        if kind == "iid":
            shares = np.array_split(rng.permutation(count), clients)
        elif kind == "natural":
            shares = _natural(owners, clients, rng)
        elif kind == "dirichlet":
            shares = _dirichlet(_classes(labels), clients, argument, rng)
        else:
            shares = _by_classes(_classes(labels), clients, int(argument), rng)
    except ValueError as error:
        raise ValueError(f"the split {rule!r} cannot be made: {error}") from None
    return [np.sort(share).astype(np.int64) for share in shares]


def parse_rule(rule: str) -> tuple[str, float]:
    """The rule's kind and its number, 0 where it has none. Raises: `ValueError`."""
    kind, _, text = rule.partition(":")
    try:
        argument = float(text) if text else 0.0
    except ValueError:
        argument = -1.0
    numbered = kind == "dirichlet" or (kind == "classes" and argument == int(argument))
    if argument > 0 if numbered else (kind in ("iid", "natural") and not text):
        return kind, argument
    raise ValueError(f"no split is {rule!r}; there are iid, dirichlet:ALPHA, classes:K, natural")


def _classes(labels: NDArray[np.integer] | None) -> NDArray[np.integer]:
    if labels is None:
        raise ValueError("these data have no classes")
    return labels


def _dirichlet(labels: NDArray[np.integer], clients: int, alpha: float, rng: np.random.Generator) -> list[Indices]:
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        proportions = rng.dirichlet(np.full(clients, alpha))
        cuts = np.rint(np.cumsum(proportions)[:-1] * len(members)).astype(int)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    shares = [rng.permutation(np.concatenate(part)) for part in parts]
    # A small alpha leaves clients with nothing: the largest give up a few, so that everybody can train.
    least = max(1, min(10, len(labels) // (2 * clients)))
    for poor in range(clients):
        while len(shares[poor]) < least:
            rich = max(range(clients), key=lambda client: len(shares[client]))
            moved = least - len(shares[poor])
            moved = max(1, min(moved, len(shares[rich]) - least))
            shares[poor] = np.concatenate([shares[poor], shares[rich][-moved:]])
            shares[rich] = shares[rich][:-moved]
    return shares


def _by_classes(labels: NDArray[np.integer], clients: int, each: int, rng: np.random.Generator) -> list[Indices]:
    classes = np.unique(labels)
    if each > len(classes):
        raise ValueError(f"there are only {len(classes)} classes")
    if each * clients < len(classes):
        raise ValueError(f"{clients} clients with {each} classes each leave some of {len(classes)} classes to nobody")
    holders: list[list[int]] = [[] for _ in classes]
    for client in range(clients):
        # The classes with the fewest owners first, in random order among equals.
        order = np.lexsort((rng.random(len(classes)), np.array([len(owners) for owners in holders])))
        for chosen in order[:each]:
            holders[chosen].append(client)
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for label, owners in zip(classes, holders, strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < len(owners):
            raise ValueError(f"class {label} has {len(members)} examples for {len(owners)} clients")
        for client, piece in zip(owners, np.array_split(members, len(owners)), strict=True):
            parts[client].append(piece)
    return [np.concatenate(part) for part in parts]


def _natural(owners: NDArray[np.generic] | None, clients: int, rng: np.random.Generator) -> list[Indices]:
    if owners is None:
        raise ValueError("these data do not say whose each example is")
    names = np.unique(owners)
    if len(names) < clients:
        raise ValueError(f"there are only {len(names)} owners for {clients} clients")
    groups = np.array_split(names if len(names) == clients else rng.permutation(names), clients)
    return [np.flatnonzero(np.isin(owners, group)) for group in groups]
