"""What `thinwire-client fleet` does, from its options to its exit code."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.join import invite_of, learning_problem
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import ProblemFileError
from thinwire.edge_client.rehearsal import rehearse
from thinwire.edge_client.settings import UsageError
from thinwire.machine.files import write_atomic
from thinwire.machine.quantities import in_bytes
from thinwire.machine.text import printable
from thinwire.protocol.exit_codes import Exit

from .availability import read_trace, shares_of
from .board import DOINGS, Snapshot
from .process import FleetProcess
from .settings import FleetSettings, parse_links

_FAILURES_SHOWN: Final = 5
_LINE_EVERY_S: Final = 10.0


def lead_fleet(url: str, options: FleetSettings) -> tuple[Exit, str]:
    """Runs the fleet to the end of its runs; returns the exit code and what to tell the user, "" for nothing."""
    try:
        with _folder(options) as folder:
            return _lead(url, options, folder)
    except (UsageError, ProblemFileError, ValueError) as error:
        return Exit.USAGE, str(error)
    except OSError as error:
        return Exit.LOCAL, str(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED, "interrupted; with --data-dir a fleet can go on"


def _lead(url: str, options: FleetSettings, folder: Path) -> tuple[Exit, str]:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("warn")
    problem = learning_problem(options, *options.sizes)
    first = Learner(problem, ClientInfo(options.names()[0], 0, options.clients, options.seed, options.split))
    rehearse(first, problem.file)
    links = [] if options.link is None else shares_of(parse_links(options.link), options.clients)
    random.Random(options.seed).shuffle(links)  # noqa: S311
    trace = {} if options.trace is None else read_trace(options.trace, options.clients)
    invite, began = invite_of(options.invite_file), time.monotonic()

    # Forked, so that all share the pages of one torch; nothing here has begun a thread.
    context = multiprocessing.get_context("fork")
    told: dict[Connection, Snapshot] = {}
    processes: list[ForkProcess] = []
    for number in range(options.shared_among):
        members = range(number, options.clients, options.shared_among)
        here, there = context.Pipe(duplex=False)
        work = FleetProcess(
            url, options, problem, first.spec, folder, invite, members, began=began, links=links, trace=trace
        )
        process = context.Process(target=work.run, args=(there, [*told, here]), daemon=True)
        process.start()
        there.close()
        processes.append(process)
        told[here] = Snapshot()
    try:
        for snapshot in _heard(told, options):
            end = snapshot
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.kill()
    return _ended(end, options, time.monotonic() - began, [process.exitcode or 0 for process in processes])


def _heard(told: dict[Connection, Snapshot], options: FleetSettings) -> Iterator[Snapshot]:
    """How the fleet stands, again and again, until all processes have ended; shown on standard error."""
    console = Console(stderr=True, quiet=options.quiet)
    description = TextColumn("{task.description}")
    columns = (TextColumn("joined"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), description)
    bar = Progress(*columns, console=console, disable=options.quiet or not console.is_terminal)
    listening, said_at = list(told), 0.0
    with bar:
        joined = bar.add_task("", total=options.clients)
        while listening:
            for one in [known for known in wait(listening) if isinstance(known, Connection)]:
                try:
                    told[one] = one.recv()
                except EOFError:
                    listening.remove(one)
            whole = Snapshot.sum(told.values())
            words = f"{whole.words()}; {whole.tasks:,} tasks, {in_bytes(whole.sent + whole.received)}"
            bar.update(joined, completed=options.clients - whole.doing["joining"], description=words)
            if not console.is_terminal and time.monotonic() - said_at >= _LINE_EVERY_S:
                said_at = time.monotonic()
                console.print(words, highlight=False)
            yield whole


def _ended(end: Snapshot, options: FleetSettings, seconds: float, codes: list[int]) -> tuple[Exit, str]:
    if options.stats is not None:
        found = {
            "clients": {one: end.doing[one] for one in DOINGS}, "tasks": end.tasks, "seconds": round(seconds, 3),
            "process": {"sent": end.sent, "received": end.received}, "failures": dict(end.failures),
        }  # fmt: skip
        write_atomic(options.stats, json.dumps(found).encode(), fsync=False, mode=0o644)
    said = [
        f"{end.doing['finished']:,} of {options.clients:,} clients finished in {seconds:.1f} s: {end.tasks:,} tasks, "
        f"{in_bytes(end.sent)} up, {in_bytes(end.received)} down"
    ]
    if end.doing["left"]:
        said.append(f"{end.doing['left']:,} left, as the trace has it")
    said += [f"{count:,} failed: {printable(why)}" for why, count in end.failures.most_common(_FAILURES_SHOWN)]
    if (rest := end.failures.total() - sum(count for _, count in end.failures.most_common(_FAILURES_SHOWN))) > 0:
        said.append(f"{rest:,} failed otherwise")
    said += [f"a process of the fleet was ended by signal {-code}" for code in codes if code < 0]
    whole = end.doing["finished"] + end.doing["left"] == options.clients and not any(codes)
    return (Exit.OK if whole else Exit.FAILED), "" if whole and options.quiet else "\n".join(said)


@contextmanager
def _folder(options: FleetSettings) -> Iterator[Path]:
    """Where the clients' folders lie."""
    if options.data_dir is not None:
        options.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield options.data_dir
        return
    # What is written to the very end by a client that is ended may be in the way.
    with tempfile.TemporaryDirectory(prefix="thinwire-fleet-", ignore_cleanup_errors=True) as path:
        yield Path(path)
