"""Exit codes of both commands, documented in `docs/commands.md`."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a command's exit code means."""

    OK = 0
    FAILED = 1  # the work was done and failed: the run failed or was stopped, an answer was refused for good
    USAGE = 2  # the command line, a settings file or a task file is wrong
    UNREACHABLE = 3  # no coordinator answered at this address
    REFUSED = 4  # the coordinator refused: token, invite, role, model
    LOCAL = 5  # this machine cannot: port in use, disk full, folder not writable
    INTERRUPTED = 130  # Ctrl-C or SIGTERM; what was begun is parked
