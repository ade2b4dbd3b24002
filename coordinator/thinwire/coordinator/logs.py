"""The service's log: one line for each thing that an operator would ask about later, UTC, for people or as JSON."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, Literal

import structlog

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


def log_from(level: str, format_: Literal["text", "json"]) -> None:
    """What the coordinator says, from this level on, to standard output; what its libraries say only when everything is
    wanted. `json`: each line an object with `time` (UTC), `level`, `event` and what else there is to say.
    """
    rendered: list[Any]
    named: list[Any] = [
        structlog.processors.TimeStamper(fmt=_TIME, utc=True, key="time"),
        structlog.stdlib.add_log_level,
    ]
    if format_ == "json":
        rendered = [structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer()]
    else:
        rendered = [_in_order, _console()]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *named, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )
    of_libraries = logging.StreamHandler(sys.stdout)
    of_libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=named,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(
        level=logging.DEBUG if level == "debug" else logging.WARNING, handlers=[of_libraries], force=True
    )


def _console() -> Any:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), timestamp_key="time", pad_event_to=0, pad_level=False, sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )  # fmt: skip


def _in_order(_logger: Any, _method: str, line: dict[str, Any]) -> dict[str, Any]:
    """When, how bad and what first; what there is none of is not worth a word."""
    found = {name: line.pop(name) for name in ("time", "level", "event") if name in line}
    return found | {name: value for name, value in line.items() if value is not None}
