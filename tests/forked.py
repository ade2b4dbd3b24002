"""Processes as real as `python ...` and there at once: forked from one that has imported what they would import.

A server process (multiprocessing's forkserver), one for each process that runs tests, has imported the modules below
and done nothing else. What is forked from it runs the same commands from their arguments on, with an environment, a
folder and a session of its own; it can be watched, signalled and killed like any other. An interpreter of its own would
spend one to two seconds of processor time on imports, several hundred times in the whole suite. What is said of
start-up, imports and memory is tried by `subprocess` instead; what is to find other modules on its path is started so.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from thinwire.operator.processes import Running

PRELOADED = ["thinwire.coordinator.server", "thinwire.edge_client.join", "thinwire.operator.lab"]


class Forked:
    """One process; what `thinwire.operator.processes.Running` says."""

    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Descriptor:
    """Handed over with the process: made to be so only while one is started (`DupFd`)."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _handed_over, (DupFd(self._number),)


def _handed_over(given: Any) -> Any:
    return given


def start(
    words: Sequence[str], output: int, errors: int | None = None, *, environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Running:  # fmt: skip
    """`python WORDS`, where these begin with `-m MODULE` or with the path of a script.

    `output`, `errors`: descriptors of what it writes to; all to `output` without the second, both are the caller's to
    close. `environment`: all of its variables, this process's own where none are given; `folder`: where it works.
    """
    variables = dict(os.environ if environment is None else environment)
    errors = output if errors is None else errors
    if variables.get("PYTHONPATH") != os.environ.get("PYTHONPATH"):
        line = [sys.executable, *words]
        return subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=variables,
            cwd=folder,
            start_new_session=True,
        )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    pipes = (_Descriptor(output), _Descriptor(errors))
    # A daemon is ended with the process that started it, however that ends.
    process = context.Process(
        target=_become, args=(list(words), pipes, variables, str(folder or Path.cwd())), daemon=True
    )
    process.start()
    return Forked(process)


def run(
    words: Sequence[str], *, environment: Mapping[str, str] | None = None, folder: Path | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """The same to its end, with what it has written. Raises: `subprocess.TimeoutExpired`; it is killed then."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = start(words, output.fileno(), errors.fileno(), environment=environment, folder=folder)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess(list(words), code, output.read(), errors.read())


def _become(words: list[str], pipes: tuple[Any, Any], variables: dict[str, str], folder: str) -> None:
    """Becomes that process."""
    os.setsid()
    for number, pipe in enumerate(pipes, 1):
        os.dup2(pipe.detach(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through="PYTHONUNBUFFERED" in variables)  # type: ignore[union-attr]
    if "PYTHONWARNINGS" in variables:
        warnings.simplefilter(variables["PYTHONWARNINGS"])  # type: ignore[arg-type]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # It is as free as any process to start others.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
