"""What strangers wrote is shown as it is, and does nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.machine.text import printable

anything = st.text(st.characters(exclude_categories=()))


@given(anything)
def test_what_is_shown_can_be_printed(text: str) -> None:
    assert printable(text).isprintable()
    assert all(line.isprintable() for line in printable(text, lines=True).split("\n"))
    assert printable(text, lines=True).count("\n") == text.count("\n")


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_what_can_be_printed_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x1b]8;;http://evil.example\x07click\x1b]8;;\x07", r"\x1b]8;;http://evil.example\x07click\x1b]8;;\x07"),
        ("a\rb\x08\x9b2J", r"a\rb\x08\x9b2J"),
        ("two\nlines", r"two\nlines"),
        ("gnp.\u202eexe", r"gnp.\u202eexe"),
        ("Müller, 東京 [/b]", "Müller, 東京 [/b]"),
    ],
)
def test_what_would_steer_a_terminal_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown
