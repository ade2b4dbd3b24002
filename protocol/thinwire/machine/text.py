"""Text of strangers, made fit to be shown: on a terminal, in a log, in a report."""

from __future__ import annotations


def printable(text: str, *, lines: bool = False) -> str:
    """The text with everything that would not be printed as it is (control characters, escape sequences, marks that
    turn the direction of writing) as its escape. `lines`: it may have several.
    """
    return "".join(
        letter if letter.isprintable() or (lines and letter == "\n") else letter.encode("unicode_escape").decode()
        for letter in text.encode(errors="backslashreplace").decode()
    )
