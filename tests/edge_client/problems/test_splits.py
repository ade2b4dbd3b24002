"""Laws of splits: every example has exactly one owner, nobody is left without, equal arguments give equal shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.edge_client.problems.splits import split

RULES = st.one_of(
    st.just("iid"),
    st.just("natural"),
    st.floats(0.02, 100).map(lambda alpha: f"dirichlet:{alpha}"),
    st.integers(1, 5).map(lambda each: f"classes:{each}"),
)


@given(RULES, st.integers(5, 12), st.integers(0, 1000))
def test_shares_are_disjoint_complete_and_never_empty(rule: str, clients: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(5), 30), rng.integers(0, 5, 150)])
    owners = np.concatenate([np.arange(20), rng.integers(0, 20, 280)])
    shares = split(rule, labels, owners, clients, len(labels), seed)
    assert len(shares) == clients
    assert all(len(share) for share in shares)
    assert np.array_equal(np.sort(np.concatenate(shares)), np.arange(len(labels)))
    again = split(rule, labels, owners, clients, len(labels), seed)
    assert all(np.array_equal(first, second) for first, second in zip(shares, again, strict=True))


def test_another_seed_gives_another_split() -> None:
    labels = np.arange(1000) % 10
    first, second = (split("dirichlet:0.3", labels, None, 8, 1000, seed) for seed in (0, 1))
    assert any(not np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_iid_shares_are_even() -> None:
    sizes = [len(share) for share in split("iid", None, None, 7, 100, 0)]
    assert max(sizes) - min(sizes) <= 1


def test_a_smaller_alpha_is_less_even() -> None:
    labels = np.arange(5000) % 10

    def classes_of_half(rule: str) -> float:
        """How many classes make up half of a client's examples, on average."""
        counts = [
            np.sort(np.bincount(labels[share], minlength=10))[::-1] for share in split(rule, labels, None, 10, 5000, 3)
        ]
        return float(np.mean([np.searchsorted(np.cumsum(count), count.sum() / 2) + 1 for count in counts]))

    assert classes_of_half("dirichlet:0.05") < classes_of_half("dirichlet:1") < classes_of_half("dirichlet:100")


@pytest.mark.parametrize("each", [1, 2, 5])
def test_classes_gives_each_client_so_many_and_each_class_as_many_owners(each: int) -> None:
    labels = np.arange(1000) % 10
    shares = split(f"classes:{each}", labels, None, 10, 1000, 4)
    owned = [set(labels[share].tolist()) for share in shares]
    assert all(len(classes) == each for classes in owned)
    assert {sum(label in classes for classes in owned) for label in range(10)} == {each}


def test_natural_keeps_an_owner_whole() -> None:
    owners = np.arange(60) % 12
    shares = split("natural", None, owners, 5, 60, 0)
    for owner in range(12):
        assert sum(owner in owners[share] for share in shares) == 1


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("", "no split is"),
        ("shards", "no split is"),
        ("dirichlet", "no split is"),
        ("dirichlet:0", "no split is"),
        ("dirichlet:nan", "no split is"),
        ("classes:11", "only 10 classes"),
        ("classes:1.5", "no split is"),
        ("classes:x", "no split is"),
        ("natural", "whose each example is"),
        ("iid:3", "no split is"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_named(rule: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        split(rule, np.arange(100) % 10, None, 8, 100, 0)


def test_classes_that_would_leave_some_to_nobody_are_refused() -> None:
    with pytest.raises(ValueError, match="to nobody"):
        split("classes:2", np.arange(100) % 10, None, 4, 100, 0)


def test_more_clients_than_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        split("iid", None, None, 11, 10, 0)
