"""What an operator sees: words of strangers have no effect, and no figure is cut, however narrow the terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from tests.operator.stub import answering, coordinator, exchange, ledger_of, run_of
from thinwire.machine.quantities import in_bytes
from thinwire.methods.rounds import rounds_of
from thinwire.operator.cli.app import app
from thinwire.operator.console import Screen, in_count
from thinwire.operator.sheet import Sheet
from thinwire.operator.tables import ROUND_COLUMNS, round_table
from thinwire.protocol.exit_codes import Exit

HOSTILE = (
    "[/oops] [bold]x[/bold] :smile: \x1b[2J\x1b]8;;http://evil.example\x07here\x1b]8;;\x07\r\nthinwire: all is well"
)
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


def _shown(*things: object, width: int = 80) -> str:
    out = io.StringIO()
    screen = Screen(file=out, width=width)
    for thing in things:
        screen.print(thing)
    return out.getvalue()


def _command(*words: str, url: str) -> Result:
    return CliRunner().invoke(app, [*words, "--url", url])


@pytest.mark.parametrize("command", [("run", "show", "night"), ("run", "list")])
def test_a_strangers_words_reach_the_terminal_as_they_are(command: tuple[str, ...]) -> None:
    run = run_of(state="paused", reason=HOSTILE, warnings=[HOSTILE])
    exchanges = [exchange(0, {"accuracy": 0.5, "loss": 1.0, "[/oops]\x1b[31m": 2.0})]
    with answering(coordinator(run, exchanges, ledger_of("client-00"))) as url:
        done = _command(*command, url=url)
    assert done.exit_code == Exit.OK, done.output
    said = done.output.replace("\n", "")
    assert said.isprintable()
    if "show" in command:
        assert "[/oops] [bold]x[/bold] :smile:" in said
        assert "thinwire: all is well" not in [line.strip() for line in done.output.splitlines()]


def test_a_refusal_is_told_as_it_is() -> None:
    problem = b'{"reason": "run-not-found", "detail": "[/oops]\\u001b[31m", "retry": false}'
    with answering({"/v1/runs/night": (404, problem)}) as url:
        done = _command("run", "show", "night", url=url)
    assert (done.exit_code, done.stderr) == (Exit.REFUSED, "thinwire: run-not-found: [/oops]\\x1b[31m\n")


@given(words, words, words)
def test_no_cell_and_no_line_has_an_effect(title: str, name: str, cell: str) -> None:
    made = Sheet(title, (name, "figure"), text=(name,))
    made.add_row(cell, "1")
    assert _shown(made, cell, f"{name} {cell}").replace("\n", "").isprintable()


figures = st.integers(0, 10**15).map(in_count)


@given(
    st.integers(40, 140),
    st.integers(1, 10).flatmap(lambda n: st.lists(st.lists(figures, min_size=n, max_size=n), min_size=1, max_size=4)),
)
def test_every_figure_is_shown_whole_at_any_width(width: int, rows: list[list[str]]) -> None:
    made = Sheet("bytes", ("client", *(f"column {index}" for index in range(len(rows[0])))), text=("client",))
    for number, row in enumerate(rows):
        made.add_row(f"client-{number}", *row)
    shown = _shown(made, width=width)
    assert "…" not in shown
    assert all(cell_len(line) <= width for line in shown.splitlines())
    for number, row in enumerate(rows):
        key = f"client-{number} "
        mine = [line.split(key, 1)[1] for line in shown.splitlines() if line.strip().startswith(key)]
        assert re.split(r"\s{2,}", " ".join(mine).strip()) == row


def test_rounds_leave_out_what_matters_least_and_stay_one_table() -> None:
    exchanges = [exchange(index, {"accuracy": 0.1 * index, "loss": 2.0}) for index in range(4)]
    wide, narrow = (_shown(round_table(rounds_of(exchanges), 93_322), width=width) for width in (140, 80))
    assert all(name in wide for name in ROUND_COLUMNS)
    assert narrow.count("round") == 1
    for text in (in_bytes(123_456_789), in_bytes(987_654_321), in_bytes(4 * 1_111_111_110), "1234.5 s", "0.3000"):
        assert text in narrow


def test_a_run_is_shown_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinwire.operator.console.PIPE_WIDTH", 80)
    ledger = ledger_of("a-client-with-a-long-name")
    with answering(coordinator(run_of(), [exchange(0, {"accuracy": 0.5, "loss": 1.0})], ledger)) as url:
        done = _command("run", "show", "night", url=url)
    (row,), (link,) = ledger.rows, ledger.links
    for count in (row.requests, row.uplink_payload_bytes, row.downlink_framing_bytes, row.resumed_bytes,
                  link.sent_bytes, link.downlink_bytes):  # fmt: skip
        assert in_count(count) in done.output
    assert "round 1, train: 1 of 2; ward-2 declined: out of memory" in done.output
    assert max(map(cell_len, done.output.splitlines())) <= 80
    assert "…" not in done.output


def test_the_methods_settings_are_shown_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinwire.operator.console.PIPE_WIDTH", 80)
    done = CliRunner().invoke(app, ["methods"])
    assert done.exit_code == Exit.OK
    assert max(map(cell_len, done.output.splitlines())) <= 80
    assert "…" not in done.output
