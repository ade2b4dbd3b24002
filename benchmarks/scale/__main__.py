"""How a coordinator does with ten clients, and with ten thousand: `python -m benchmarks.scale [--quick]`.

A coordinator over SQLite, one and two replicas over PostgreSQL and a store that is a folder; each is a process, and all
clients, which train nothing, are another one, whose connections take turns among the replicas. Measured: the memory of
clients that are enrolled and wait; the time until a tenth of them, woken by a run that is resumed, has its tasks;
registrations and answers in a second, and how long they take, with a hundred clients at a time and answers of three
sizes. Cells are stored one by one, so that some can be measured again; the tables of docs/scale.md and the picture are
made of all that are stored.

Limits: 30 kB for a waiting client, 5 s until the last of 1,000 has its task.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.growth_clients import let_have, room_for, said_of_room
from benchmarks.marked import fill
from benchmarks.postgres_server import NoPostgresError, PostgresServer, postgres_server
from thinwire.operator.console import console
from thinwire.operator.sheet import Sheet

from . import answering, million, waiting
from .deployment import KINDS, Kind, deployed
from .stored import (
    ANSWERING_COLUMNS,
    TITLE,
    WAITING_COLUMNS,
    Cells,
    answering_rows,
    beyond,
    draw,
    tables,
    waiting_rows,
)  # fmt: skip

OUT: Final = Path("benchmarks/results/scale.json")
PAGE: Final = Path("docs/scale.md")
PICTURE: Final = Path("docs/images/results/scale.png")
COMMAND: Final = "python -m benchmarks.scale: {}"
UNMEASURED: Final = "Not measured yet: `python -m benchmarks.scale` puts its table here."
QUICK_CLIENTS: Final = (10, 100)
QUICK_SIZES: Final = (1000, 100_000)
NAMES: Final = {f"{kind.database}-{kind.replicas}": kind for kind in KINDS}


def texts(cells: Cells) -> dict[str, str]:
    """What stands in each place of the page."""
    found = {**tables(cells), "a million": million.table(cells.waiting, cells.answering)}
    if found["waiting"]:
        found["waiting"] += f"\n\n![{TITLE}]({PICTURE.relative_to(PAGE.parent)})"
    return {COMMAND.format(name): text or UNMEASURED for name, text in found.items()}


def _measure(kinds: Sequence[Kind], given: argparse.Namespace, cells: Cells) -> None:
    screen = console()
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres: PostgresServer | None = None
        if any(kind.database == "postgresql" for kind in kinds):
            postgres = stack.enter_context(postgres_server(root / "postgres"))
        for number, kind in enumerate(kinds):
            for wanted in given.clients:
                clients = room_for(wanted)
                if said := said_of_room(wanted, clients):
                    screen.print(said)
                let_have(clients)
                with deployed(kind, root / f"{number}-{clients}", postgres) as deployment:
                    wakes = given.wakes or (2 if given.quick else waiting.WAKES[wanted])
                    cells.put(asyncio.run(waiting.measure(deployment, clients, wakes)))
                screen.print(f"{kind}: {clients:,} clients have waited")
            for size in given.sizes:
                with deployed(kind, root / f"{number}-answers-{size}", postgres) as deployment:
                    exchanges = 2 if given.quick else answering.EXCHANGES
                    cells.put(asyncio.run(answering.measure(deployment, size, given.at_once, exchanges)))
                screen.print(f"{kind}: answers of {size:,} bytes are taken")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, stores each cell, prints the tables, fills the page's, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small and once: some minutes; nothing is written")
    parser.add_argument("--kinds", nargs="+", choices=sorted(NAMES), default=list(NAMES), help="these only")
    parser.add_argument("--clients", type=int, nargs="*", choices=sorted(waiting.WAKES), help="these numbers only")
    parser.add_argument("--wakes", type=int, help="how often a cohort is woken; default: the less the more clients")
    parser.add_argument("--sizes", type=int, nargs="*", help="of answers, in bytes: these only")
    parser.add_argument("--at-once", type=int, default=answering.CLIENTS, help="clients that answer")
    parser.add_argument("--render", action="store_true", help="measure nothing: tables and picture of what is stored")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    given = parser.parse_args(arguments)
    if given.clients is None:
        given.clients = QUICK_CLIENTS if given.quick else sorted(waiting.WAKES)
    if given.sizes is None:
        given.sizes = QUICK_SIZES if given.quick else answering.SIZES
    cells = Cells(None if given.quick else given.out)
    if not given.render:
        try:
            _measure([NAMES[name] for name in given.kinds], given, cells)
        except NoPostgresError as error:
            parser.exit(1, f"{error}\n")
    screen = console()
    for title, columns, rows in (
        ("clients that wait, a tenth of them woken", WAITING_COLUMNS, waiting_rows(cells.waiting)),
        ("registrations and answers", ANSWERING_COLUMNS, answering_rows(cells.answering)),
    ):
        shown = Sheet(title, columns, keys=2, text=("database",))
        for row in rows:
            shown.add_row(*row)
        screen.print(shown)
    for line in beyond(cells.waiting):
        screen.print(line)
    if given.quick:
        return
    for command, text in texts(cells).items():
        fill(given.page, command, text)
    if cells.waiting:
        draw(cells.waiting, given.picture)
    screen.print(f"written: {given.out}, {given.page}, {given.picture}")


if __name__ == "__main__":
    main()
