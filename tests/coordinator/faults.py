"""What disks do: full, read-only, locked by another process, damaged. Each ends with its context."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served
from thinwire.protocol.encoding import decode_message
from thinwire.protocol.messages import Problem

NAMES = ["client-00", "client-01", "client-02"]


class Patient(httpx.AsyncClient):
    """Repeats a request until it is neither cut nor answered with a reason that may pass, which it notes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(timeout=60, **options)
        self.met: list[str] = []

    async def request(self, *args: Any, **kwargs: Any) -> httpx.Response:
        for _ in range(1200):
            try:
                response = await super().request(*args, **kwargs)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if response.status_code < 500:
                return response
            problem = decode_message(Problem, response.content, response.headers["content-type"])
            assert problem.retry
            self.met.append(problem.reason)
            assert float(response.headers.get("retry-after", 0)) <= 10
            await asyncio.sleep(0.05)
        raise AssertionError(f"it never passed: {set(self.met)}")


async def enrolled(http: Patient, served: Served) -> list[NumpyClient]:
    invite = served.invite()
    clients = [NumpyClient(http, name, through_upload=name.endswith("1")) for name in NAMES]
    for client in clients:
        await client.enrol(invite)
    return clients


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own. Skips the test where none may be mounted."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No byte of the disk is free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def read_only(folders: list[Path]) -> Iterator[None]:
    """Nothing can be made in these folders, not even by root where it has laid that power down."""
    for folder in folders:
        folder.chmod(0o555)
    try:
        yield
    finally:
        for folder in folders:
            folder.chmod(0o755)


def powerless() -> list[str]:
    """What to start a process by, so that permissions bind it. Skips the test where root cannot lay its powers down."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("binding root to permissions needs setpriv")
    return prefix


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process writes to the database and does not come to an end."""
    script = (
        "import sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('BEGIN EXCLUSIVE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            process.communicate()


def accepted(served: Served, run: str) -> list[set[str]]:
    """Whose answers counted, exchange by exchange."""
    query = "SELECT exchange, client FROM tasks WHERE run = ? AND state = 'accepted'"
    with contextlib.closing(sqlite3.connect(served.data_dir / "thinwire.db")) as database:
        rows = list(database.execute(query, [run]))
    return [{name for of, name in rows if of == exchange} for exchange in range(1 + max(of for of, _ in rows))]
