"""Tasks whose clients were not there to hear of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, bindparam, exists, or_, update

from thinwire.coordinator.runs.rows import LAPSED

from .tables import answers, exchanges, presence, tasks

_ANSWERED: Final = exists().where(answers.c.task == tasks.c.id)
_HEARD: Final = exists().where(
    presence.c.client == tasks.c.client, or_(presence.c.parked, presence.c.seen_at > bindparam("at"))
)
_LAPSE: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"), tasks.c.run == bindparam("lease_run"), tasks.c.state == "open")
    .where(~_ANSWERED, ~_HEARD)
    .values(state="late", reason=LAPSED)
    .returning(tasks.c.client)
)
_BACK: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("name"), tasks.c.state == "late", tasks.c.reason == LAPSED)
    .where(
        exists().where(
            exchanges.c.run == tasks.c.run, exchanges.c.exchange == tasks.c.exchange, exchanges.c.closed.is_(False)
        )
    )
    .values(state="open", reason=None)
)
_GONE: Final = update(presence).where(presence.c.client == bindparam("name")).values(gone=True)


def lapse_tasks(connection: Connection, run: str, asked: Mapping[str, float]) -> set[str]:
    """Those of these open tasks of a run, by when they were offered (Unix seconds), whose clients do not wait and have
    not been heard of since: late from now on, and their clients gone until they are heard.
    """
    lapsed: dict[str, str] = {}
    for task, at in asked.items():
        found = connection.execute(_LAPSE, {"task": task, "lease_run": run, "at": at}).first()
        if found is not None:
            lapsed[task] = found.client
    if lapsed:
        connection.execute(_GONE, [{"name": client} for client in lapsed.values()])
    return set(lapsed)


def answer_lapsed(connection: Connection, task: str) -> bool:
    """The task is open again, since its client has answered it; False where its exchange is closed."""
    return connection.execute(_BACK, {"name": task}).rowcount > 0
