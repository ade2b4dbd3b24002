"""What the storage refuses is a run's trouble until it has been done, for the operator to see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from thinwire.coordinator.objects.problems import storage_problem
from thinwire.coordinator.records.troubles import Troubles
from thinwire.coordinator.signals.signals import Signals
from thinwire.protocol.reasons import ProblemError

STORAGE: Final = ("storage-full", "storage-failed")
_ANSWERS: Final = "answers"


class Noting:
    """Notes what became of storing answers."""

    def __init__(self, troubles: Troubles, signals: Signals) -> None:
        self._troubles = troubles
        self._signals = signals

    @contextmanager
    def storing(self, run: str) -> Iterator[None]:
        """While something of an answer to this run is stored. An `OSError` leaves as a `ProblemError`."""
        try:
            yield
        except TimeoutError:
            raise  # of a transfer that stands still; an `OSError` only by its name
        except OSError as error:
            problem = storage_problem(error)
            self._note(run, problem)
            raise problem from None
        except ProblemError as problem:
            if problem.reason in STORAGE:
                self._note(run, problem)
            raise
        self._note(run, None)

    def _note(self, run: str, problem: ProblemError | None) -> None:
        if self._troubles.note(run, _ANSWERS, problem):
            self._signals.publish(f"events:{run}")
