"""What an answer costs, from what was counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import growth
from benchmarks.growth import Grown, read, rows, stored, verdicts
from benchmarks.growth_clients import Marks, NoRoomError, let_have, room_for, said_of_room


def grown(clients: int, answer_ms: float, exchanges: int = 4) -> Grown:
    """A cell whose answers cost so much."""
    cohort = clients // 10
    used_s = answer_ms * exchanges * cohort / 1e3
    return Grown(clients, cohort, exchanges, used_s, clients * 2e-3, seconds=10.0, waiting_bytes=clients * 500, again=0)


def test_figures_are_for_each_answer_poll_exchange_and_client() -> None:
    one = Grown(1000, 100, 4, answers_cpu_s=2.0, polls_cpu_s=3.0, seconds=6.0, waiting_bytes=25_000_000, again=0)
    assert (one.answer_ms, one.poll_ms, one.exchange_s, one.client_bytes) == (5.0, 3.0, 1.5, 25_000.0)
    assert grown(10, 4.0).client_bytes is None


def test_growth_is_over_that_of_a_hundred_clients() -> None:
    cells = [grown(10, 20.0), grown(100, 4.0), grown(1000, 6.0), grown(10_000, 6.5)]
    found = [(growth, holds) for _, growth, holds in verdicts(cells)]
    assert [holds for _, holds in found] == [True, True, True, False]
    assert [growth for growth, _ in found] == [None, None, pytest.approx(1.5), pytest.approx(1.625)]
    assert [growth for _, growth, _ in verdicts(cells[2:])] == [None, None]


def test_the_table_has_a_row_for_each_number_of_clients() -> None:
    assert rows([grown(10, 20.0), grown(100, 4.0), grown(1000, 6.0)]) == [
        ("1 of 10", "20.00 ms", "-", "2.00 ms", "2.50 s", "-"),
        ("10 of 100", "4.00 ms", "-", "2.00 ms", "2.50 s", "500 B"),
        ("100 of 1,000", "6.00 ms", "1.50x", "2.00 ms", "2.50 s", "500 B"),
    ]


def test_what_is_stored_is_read_again_a_line_for_each_cell() -> None:
    cells = [grown(10, 20.0), grown(10_000, 4.0)]
    text = stored(cells)
    assert read(json.loads(text)) == cells
    assert [line for line in text.splitlines() if '"clients"' in line] == [
        line for line in text.splitlines() if "answers_cpu_s" in line
    ]


def test_the_first_task_of_an_exchange_is_its_mark() -> None:
    marks = Marks(lambda: 0.0, last=1)
    marks.note(0)
    first = marks.seen[0]
    marks.note(0)
    assert not marks.over.is_set()
    marks.note(1)
    assert marks.over.is_set()
    assert marks.seen[0] is first


def test_a_machine_without_room_for_so_many_sockets_says_what_to_do() -> None:
    with pytest.raises(NoRoomError, match=r"ulimit -Hn.*--clients"):
        let_have(1 << 40)


def test_as_many_clients_are_taken_as_the_machine_has_room_for() -> None:
    let_have(room_for(100))
    assert said_of_room(100, 100) == ""
    most = room_for(1 << 40)
    assert most == 1 << 40 or (
        f"{most:,}" in said_of_room(1 << 40, most) and "ulimit -Hn" in said_of_room(1 << 40, most)
    )


def test_the_picture_shows_every_series(tmp_path: Path) -> None:
    growth.draw([grown(10, 20.0), grown(100, 4.0)], path := tmp_path / "images" / "growth.png")
    assert path.read_bytes().startswith(b"\x89PNG")
