"""The benchmark of scale: its page, its formulas, and that its command works, at its smallest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.marked import END, begin, filled
from benchmarks.scale import million
from benchmarks.scale.__main__ import OUT, PAGE, main, texts
from benchmarks.scale.answering import Answering
from benchmarks.scale.stored import Cells, beyond, draw
from benchmarks.scale.waiting import Waiting, share

ROOT = Path(__file__).parents[2]
WAITING = Waiting(
    "postgresql", 2, 10_000, 1000, enrolled_bytes=100_000_000, waiting_bytes=250_000_000, polls_s=10.0,
    polls_cpu_s=30.0, polls_rows=30_000, idle_bytes=300.0, last_s=[3.0, 9.0, 4.0], p50_s=2.0, p99_s=3.5,
)  # fmt: skip
ANSWERING = Answering(
    "postgresql", 2, 100_000, 100, 6, registrations_rate=500.0, registrations_p50_s=0.1, registrations_p99_s=0.2,
    answers_rate=100.0, answers_p50_s=0.3, answers_p99_s=0.4, cpu_s=0.01, requests=3.6, uplink=101_000.0,
    downlink=500.0, rows=10.0,
)  # fmt: skip


def test_the_page_shows_what_was_measured() -> None:
    for command, text in texts(Cells(ROOT / OUT)).items():
        assert filled(ROOT / PAGE, command) == text


def test_a_cell_that_is_measured_again_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    cells = Cells(path)
    for one in (WAITING, ANSWERING, replace(WAITING, clients=10), replace(WAITING, polls_s=20.0)):
        cells.put(one)
    read = Cells(path)
    assert read.waiting == [replace(WAITING, clients=10), replace(WAITING, polls_s=20.0)]
    assert read.answering == [ANSWERING]
    assert sum('"database"' in line for line in path.read_text().splitlines()) == len(read.waiting + read.answering)


def test_a_million_clients_are_what_the_formulas_say() -> None:
    (found,) = million.needs([replace(WAITING, clients=10), WAITING], [replace(ANSWERING, answer_bytes=1), ANSWERING])
    polls, answers = 1e6 / 600, 1e4 / 3600
    assert found.rows == pytest.approx(3 * polls + 10 * answers)
    assert found.processors == pytest.approx(0.003 * polls + 0.01 * answers)
    assert found.bytes == pytest.approx(300 * polls + 201_500 * answers)
    used = {
        "polls and answers taken": polls / 1000 + answers / 100,
        "processor": found.processors / 2,
        "open files": 1e6 / (1 << 20),
    }
    assert found.limits == pytest.approx(used)
    assert found.first == f"processor, at {1e6 / used['processor']:,.0f} clients"


def test_what_is_beyond_the_limits_is_named() -> None:
    assert beyond([WAITING]) == []
    heavy = replace(WAITING, waiting_bytes=310_000_000)
    slow = replace(WAITING, last_s=[6.0, 4.0, 7.0])
    assert [("31.0 kB" in text, "6.0 s" in text) for text in beyond([heavy, slow])] == [(True, False), (False, True)]


def test_a_share_is_the_value_that_so_many_do_not_exceed() -> None:
    values = list(range(100, 0, -1))
    assert (share(values, 0.5), share(values, 0.99), share([7.0], 0.99)) == (50, 99, 7.0)


def test_the_picture_shows_every_kind(tmp_path: Path) -> None:
    draw([WAITING, replace(WAITING, clients=10, cohort=1)], path := tmp_path / "images" / "scale.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_command_measures_stores_and_fills_the_page(tmp_path: Path) -> None:
    out, page, picture = tmp_path / "scale.json", tmp_path / "page.md", tmp_path / "scale.png"
    page.write_text("".join(f"{begin(command)}\n{END}\n" for command in texts(Cells(out))))
    words = ["--kinds", "sqlite-1", "--clients", "10", "--wakes", "1", "--sizes", "1000", "100000", "--at-once", "2"]
    main([*words, "--out", str(out), "--page", str(page), "--picture", str(picture)])
    cells = Cells(out)
    (waited,), (small, large) = cells.waiting, cells.answering
    assert (waited.clients, waited.cohort, len(waited.last_s)) == (10, 1, 1)
    assert small.uplink > 1000
    assert large.uplink > 100_000
    assert small.requests >= 1
    assert large.requests >= 3  # it is uploaded
    assert json.loads(out.read_text())["waiting"]
    assert picture.exists()
    for command, text in texts(cells).items():
        assert filled(page, command) == text
