"""What a client remembers of what it has said, and when it sends that."""

from __future__ import annotations

import pytest

from thinwire.coordinator.serve.client_logs import unpacked
from thinwire.edge_client.diary import Diary, When
from thinwire.protocol.fields import MAX_LOG_LINES, MAX_SAID


def diary(when: When = "failures") -> tuple[Diary, list[str]]:
    said: list[str] = []
    return Diary(said.append, when, lambda: 1.7e9), said


def test_what_arrived_is_not_sent_again() -> None:
    told, said = diary()
    told("one")
    told.remember("two,\n  in  lines")
    packed = told.packed(failed=True)
    assert packed is not None
    assert unpacked(packed) == [(1.7e9, "one"), (1.7e9, "two, in lines")]
    assert said == ["one"]
    told("three")  # said while they travel
    told.arrived()
    again = told.packed(failed=True)
    assert again is not None
    assert unpacked(again) == [(1.7e9, "three")]
    told("four")  # those did not arrive
    once_more = told.packed(failed=True)
    assert once_more is not None
    assert [line for _, line in unpacked(once_more)] == ["three", "four"]


def test_the_latest_lines_are_kept_and_none_is_long() -> None:
    told, _ = diary()
    for number in range(MAX_LOG_LINES + 10):
        told(f"{number} {'x' * 1000}")
    packed = told.packed(failed=True)
    assert packed is not None
    lines = unpacked(packed)
    assert (len(lines), lines[0][1][:3], len(lines[0][1])) == (MAX_LOG_LINES, "10 ", MAX_SAID)
    assert len(packed) < 3000


@pytest.mark.parametrize(("when", "behind"), [("failures", (False, True)), ("rounds", (True, True)), ("never", ())])
def test_they_are_sent_when_the_person_lets_them(when: When, behind: tuple[bool, ...]) -> None:
    told, said = diary(when)
    assert told.packed(failed=True) is None, "nothing has been said"
    told("one")
    assert said == ["one"]
    sends = tuple(told.packed(failed=failed) is not None for failed in (False, True))
    assert sends == (behind or (False, False))
