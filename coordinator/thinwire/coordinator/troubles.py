"""A run's troubles: what the storage refuses, until it has been done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from thinwire.protocol.reasons import ProblemError

from .objects.problems import storage_problem
from .runs import Run

STORAGE: Final = ("storage-full", "storage-failed")


@contextmanager
def noted(run: Run | None, what: str) -> Iterator[None]:
    """What the storage refuses is the run's trouble until it has been done; an `OSError` leaves as a `ProblemError`."""
    try:
        yield
    except TimeoutError:
        raise  # of a transfer that stands still; an `OSError` only by its name
    except OSError as error:
        problem = storage_problem(error)
        if run is not None:
            run.trouble(what, problem)
        raise problem from None
    except ProblemError as problem:
        if run is not None and problem.reason in STORAGE:
            run.trouble(what, problem)
        raise
    if run is not None:
        run.trouble(what, None)
