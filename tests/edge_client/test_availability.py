"""Who is there when: traces, and conversations that wait for their client's next spell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.edge_client.fleet.availability import Availability, AwayError, read_trace, shares_of
from thinwire.edge_client.fleet.settings import parse_links


class _Clock:
    """Time passes while somebody sleeps."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.did: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.did.append(f"slept {seconds:g}")
        self.now += seconds

    def of(self, *spells: tuple[float, float]) -> Availability:
        return Availability(
            spells, lambda: self.now, self.sleep, lambda: self.did.append("left"),
            lambda away: self.did.append("away" if away else "back"),
        )  # fmt: skip


def test_who_is_there_goes_on_and_who_is_not_comes_back_with_the_next_spell() -> None:
    clock = _Clock(5)
    there = clock.of((0, 10), (30, 40))
    there.hold()
    assert (clock.did, there.poll_s(600), there.poll_s(2)) == ([], 5, 2)
    clock.now = 10
    there.hold()
    assert clock.did == ["left", "away", "slept 20", "back"]
    clock.now = 40
    with pytest.raises(AwayError, match="no further spell"):
        there.hold()


def _trace(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return path


def test_a_trace_is_read_in_any_order(tmp_path: Path) -> None:
    path = _trace(tmp_path, "client,from,to\n2,30,40.5\n0,0,1\n2,5,30\n")
    assert read_trace(path, 3) == {0: [(0, 1)], 2: [(5, 30), (30, 40.5)]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the first line"),
        ("client,to,from\n", "the first line"),
        ("client,from,to\n3,0,1\n", "line 2"),
        ("client,from,to\n0,0,1\n0,2,2\n", "line 3"),
        ("client,from,to\n0,nan,2\n", "line 2"),
        ("client,from,to\n0,1\n", "line 2"),
        ("client,from,to\n0,0,5\n0,4,6\n", "client 0 is there twice at 4 s"),
    ],
)
def test_a_trace_that_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_trace(_trace(tmp_path, text), 3)


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=3), clients=st.integers(1, 50))
def test_links_are_shared_out_by_their_weights_to_one(weights: list[int], clients: int) -> None:
    links = dict(zip(["4g", "3g", "nb-iot"], map(float, weights), strict=False))
    found = Counter(shares_of(links, clients))
    assert found.total() == clients
    for link, weight in links.items():
        assert abs(found[link] - clients * weight / sum(weights)) <= 1


def test_links_are_written_with_their_weights() -> None:
    assert parse_links("4g") == {"4g": 1}
    assert parse_links("4g:7; 64kbit,300ms,1%:0.5") == {"4g": 7, "64kbit,300ms,1%": 0.5}
    for text in ("wifi", "4g:0", "4g:-1", "4g:nan", "4g:x", ";"):
        with pytest.raises(ValueError, match=r"link|weight"):
            parse_links(text)
