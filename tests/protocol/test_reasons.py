"""The table of reasons is closed, and each entry can be acted on."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path

import pytest

from thinwire.protocol.reasons import REASONS, WIRE_VERSION, ProblemError

EACH = pytest.mark.parametrize("name", sorted(REASONS))


@EACH
def test_a_reason_is_kebab_case_and_says_what_to_do_in_sentences(name: str) -> None:
    entry = REASONS[name]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
    assert re.fullmatch(r"[A-Z].*\.", entry.meaning)
    assert 1 <= entry.since <= WIRE_VERSION


@EACH
def test_a_reason_has_an_error_status_and_retry_agrees_with_it(name: str) -> None:
    entry = REASONS[name]
    # 460 is of tus alone.
    assert entry.status == 460 or 400 <= HTTPStatus(entry.status) < 600
    # What fails on the coordinator's side may succeed later; what the request did wrong succeeds only where the
    # state it met will change.
    if entry.status >= 500:
        assert entry.retry
    if entry.retry and entry.status < 500:
        assert entry.status in {404, 409, 429, 460}


def test_every_reason_is_given_somewhere_until_it_is_retired(root: Path) -> None:
    code = "".join(
        path.read_text()
        for folder in ("codecs", "protocol", "coordinator", "edge_client")
        for path in (root / folder).rglob("*.py")
        if path.name != "reasons.py"
    )
    for name, entry in REASONS.items():
        given = re.search(rf'(?:ProblemError|TaskRefusedError)\(\s*"{name}"' if entry.retired else f'"{name}"', code)
        assert (given is None) == entry.retired, name


def test_a_problem_without_a_detail_says_what_the_table_says() -> None:
    problem = ProblemError("name-taken")
    assert problem.detail == REASONS["name-taken"].meaning
    assert (problem.status, problem.retry) == (409, False)


def test_a_reason_that_is_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        ProblemError("made-up")
