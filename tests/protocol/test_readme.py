"""`protocol/README.md` says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.protocol.worked_round import worked_round
from tests.protocol.write_readme import BLOCKS, README, filled
from thinwire.protocol.encoding import MAX_DEPTH, decode_message
from thinwire.protocol.identity import digest_of
from thinwire.protocol.messages import MAX_INLINE_BYTES, MAX_MESSAGE_BYTES, AnswerMessage, Plan, TaskMessage
from thinwire.protocol.reasons import WIRE_VERSION

TEXT = README.read_text()


@pytest.mark.parametrize("name", BLOCKS)
def test_a_generated_part_is_what_the_code_gives(name: str) -> None:
    assert TEXT.count(f"<!-- generated: {name} -->") == 1
    assert f"<!-- generated: {name} -->\n\n{BLOCKS[name]()}\n\n<!-- end -->" in TEXT, (
        "run: python -m tests.protocol.write_readme"
    )


def test_writing_it_again_changes_nothing() -> None:
    assert filled(TEXT) == TEXT


def test_version_and_limits_are_the_codes() -> None:
    assert f"# The wire, version {WIRE_VERSION}" in TEXT
    for limit in (MAX_INLINE_BYTES, MAX_MESSAGE_BYTES):
        assert f"at most {limit} bytes" in " ".join(TEXT.split()) or f"at most\n{limit} bytes" in TEXT
    assert f"nests at most {MAX_DEPTH} deep" in TEXT


def test_every_link_into_the_text_has_its_heading() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", TEXT, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", TEXT)) <= headings


def test_the_worked_round_hangs_together() -> None:
    """What its sentences say: the plan is the one the task names, and the payloads are the shown ones."""
    enrolment, registration, plan, answer, _ = worked_round()
    task = decode_message(TaskMessage, registration.answer_body)
    assert task.plan == digest_of(plan.answer_body)
    assert plan.request.endswith(task.plan.hex())
    assert decode_message(Plan, plan.answer_body).run == task.run
    assert task.parts[0].inline == bytes.fromhex("c0 0000003f 000000c0 0000803f")
    assert decode_message(AnswerMessage, answer.request_body).payload == bytes.fromhex("c0 0000803e 0000003f 000000be")
    assert len(enrolment.request_body) < 40


def documented_endpoints() -> set[tuple[str, str]]:
    """(HTTP method, path) of every row of the table of endpoints."""
    return set(re.findall(r"^\| `(GET|POST|PUT|PATCH|HEAD|DELETE|OPTIONS) (/[^`]*)` \|", TEXT, re.M))


def test_the_endpoints_are_those_of_the_service(tmp_path: Path) -> None:
    from thinwire.coordinator.app import create_app
    from thinwire.coordinator.settings import ServeSettings

    described = create_app(ServeSettings(data_dir=tmp_path)).openapi()["paths"]
    assert {
        (method.upper(), path) for path, methods in described.items() for method in methods
    } == documented_endpoints()
