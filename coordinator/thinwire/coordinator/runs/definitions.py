"""Definitions of runs, made once from their rows."""

from __future__ import annotations

from thinwire.methods.definition import Definition, define
from thinwire.protocol.reasons import ProblemError

from .rows import RunRow


class Definitions:
    """What the rows of runs mean, kept by the run's id for as long as its settings stay as they are."""

    def __init__(self) -> None:
        self._known: dict[str, Definition] = {}

    def of(self, row: RunRow) -> Definition:
        """The definition. Raises: `run-invalid` where this version does not know the method or its settings."""
        found = self._known.get(row.id)
        if found is None or found.run != row.settings:
            if row.unreadable is not None:
                raise ProblemError("run-invalid", row.unreadable)
            found = define(row.id, row.settings, spec=row.spec, parameters=row.parameters)
            self._known[row.id] = found
        return found

    def add(self, definition: Definition) -> None:
        """Keeps one that was made already."""
        self._known[definition.id] = definition
