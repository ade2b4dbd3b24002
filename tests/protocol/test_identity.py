"""Seeds and orders are pinned for ever: a run of today must repeat bit by bit on the release of any later year."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.protocol.identity import ID, NAME, broadcast_seed, client_seed, cohort_order, digest_of

NAMES = [f"client-{index:02}" for index in range(8)]
SEEDS = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize(
    ("run_seed", "round_", "step", "name", "seed"),
    [
        (7, 1, 0, "client-00", 8875814689343420326),
        (7, 1, 0, "client-01", 1075654792622451969),
        (2**63 - 1, 1_000_000, 7, "x", 6350496026281510766),
    ],
)
def test_the_seed_of_a_client_never_changes(run_seed: int, round_: int, step: int, name: str, seed: int) -> None:
    assert client_seed(run_seed, round_, step, name) == seed


def test_the_seed_of_a_broadcast_never_changes() -> None:
    assert broadcast_seed(7, 1, 0) == 3317731564112288844
    assert broadcast_seed(0, 1, 0) == 2918264622725855778


def test_the_order_of_a_cohort_never_changes() -> None:
    assert [int(name[-2:]) for name in cohort_order(7, 1, NAMES)] == [1, 0, 6, 4, 3, 2, 7, 5]
    assert [int(name[-2:]) for name in cohort_order(7, 2, NAMES)] == [4, 0, 3, 2, 5, 6, 1, 7]


@given(SEEDS, st.integers(1, 1000), st.permutations(NAMES), st.sets(st.sampled_from(NAMES)))
def test_the_order_depends_neither_on_arrival_nor_on_who_is_absent(
    seed: int, round_: int, arrival: list[str], absent: set[str]
) -> None:
    everybody = cohort_order(seed, round_, NAMES)
    assert cohort_order(seed, round_, arrival) == everybody
    present = [name for name in arrival if name not in absent]
    assert cohort_order(seed, round_, present) == [name for name in everybody if name not in absent]


@given(SEEDS)
def test_every_client_leads_about_as_often(seed: int) -> None:
    first = Counter(cohort_order(seed, round_, NAMES)[0] for round_ in range(400))
    assert set(first) == set(NAMES)
    assert max(first.values()) < 110  # 50 expected; over 8 standard deviations


@given(SEEDS, st.integers(1, 2**31), st.integers(0, 2**31), st.sampled_from(NAMES))
def test_seeds_fit_a_signed_word_and_differ(seed: int, round_: int, step: int, name: str) -> None:
    found = [
        client_seed(seed, round_, step, name),
        client_seed(seed, round_ + 1, step, name),
        client_seed(seed, round_, step + 1, name),
        client_seed(seed, round_, step, name + "x"),
        broadcast_seed(seed, round_, step),
    ]
    assert len(set(found)) == len(found)
    assert all(0 <= value < 2**63 for value in found)


def test_a_digest_is_sha256() -> None:
    assert digest_of(b"").hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a/b", "a b", "x" * 65, "a\n", "ü"])
def test_a_name_can_stand_in_a_path_and_a_url(name: str) -> None:
    assert not NAME.fullmatch(name)


@pytest.mark.parametrize("value", ["", "short", "UPPERCASE", "x" * 13, "abc/def", "abcdef\n"])
def test_an_id_is_short_and_plain(value: str) -> None:
    assert not ID.fullmatch(value)
