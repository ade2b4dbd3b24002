"""What of this machine keeps runs from going on; in memory, since it is often the database that fails."""

from __future__ import annotations

from collections import defaultdict

from thinwire.protocol.reasons import ProblemError

_LONGEST = 1000


class Troubles:
    """By run, and by what could not be done."""

    def __init__(self) -> None:
        self._by_run: defaultdict[str, dict[str, str]] = defaultdict(dict)

    def note(self, run: str, what: str, problem: ProblemError | None) -> bool:
        """What keeps this from being done; None where it has been done. Whether that is news."""
        troubles = self._by_run[run]
        before = troubles.pop(what, None)
        if problem is not None:
            troubles[what] = str(problem)[:_LONGEST]
        return troubles.get(what) != before

    def of(self, run: str) -> list[str]:
        """The run's, the newest last."""
        return list(self._by_run.get(run, {}).values())
