"""What `thinwire-client join` does, from its options to its exit code."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import ssl
import time
from datetime import datetime
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final, NoReturn

import torch

from thinwire.codecs import CodecError
from thinwire.machine.files import write_atomic
from thinwire.machine.memory import give_back_freed_memory, keep_freed_memory
from thinwire.methods.model_file import model_bytes
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.reasons import ProblemError

from .agent import Agent
from .console import speaker
from .data import ClientInfo
from .diary import Diary
from .enrolment import client_name, enrol, enrol_again
from .learner import Learner
from .link.care import LinkCare, OverBudgetError
from .link.emulated import Pacer
from .link.replies import BadPeerError, FinishedError
from .link.resumable import download as download_payload
from .link.sockets import CountingBackend, UntrustedError
from .link.transfer import Patience, Transfer, UnreachableError
from .memory.folder import Folder, FolderInUseError
from .memory.records import TornRecordError
from .performer import Limits, TaskTooLongError
from .problems.built_in import ProblemOptions, find_problem
from .problems.problem_file import LearningProblem, ProblemFileError, is_of_file, own_traceback
from .rehearsal import rehearse
from .settings import JoinSettings, ProblemSettings, UsageError

KNOWN: Final = (ProblemError, TaskRefusedError, TaskTooLongError, OverBudgetError, CodecError)
"""What ends a client in words of ours."""
_MAX_INVITE_BYTES: Final = 1000
_MAX_MODEL_HEADER_BYTES: Final = 1 << 20


def serve(url: str, options: JoinSettings) -> tuple[Exit, str]:
    """Joins and works; returns the exit code and what to tell the user, "" for nothing."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _serve(url, options)
    except (UsageError, ProblemFileError) as error:
        return Exit.USAGE, str(error)
    except UnreachableError as error:
        return Exit.UNREACHABLE, str(error)
    except (BadPeerError, UntrustedError, TaskRefusedError) as error:
        return Exit.REFUSED, str(error)
    except ProblemError as error:
        return (Exit.FAILED if error.status >= 500 else Exit.REFUSED), str(error)
    except (TaskTooLongError, OverBudgetError, CodecError) as error:
        return Exit.FAILED, str(error)
    except (FolderInUseError, TornRecordError, OSError) as error:
        return Exit.LOCAL, str(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED, "interrupted; the work is parked"
    except Exception as error:
        # What the user's own lines raise in the middle of a run is told like what they raise at its beginning.
        file = Path(options.task)
        if not is_of_file(error, file):
            raise
        return Exit.FAILED, own_traceback(error, file)


def _serve(url: str, options: JoinSettings) -> tuple[Exit, str]:
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    # Without it CUDA's matrix products are not the same from run to run; read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # What use_deterministic_algorithms(True, warn_only=True) does, without its import of the compiler.
    torch.set_deterministic_debug_mode("warn")
    device = _device(options.device)

    # Before anything is said to a coordinator, what is wrong at home shows.
    problem = learning_problem(options, *options.sizes)
    invite = invite_of(options.invite_file)
    say = Diary(speaker(options.name or options.folder.name, quiet=options.quiet), options.log)
    folder = Folder(options.folder, say)
    before = folder.link()
    rng = Random(hashlib.sha256(f"{options.seed}/{options.name}".encode()).digest())  # noqa: S311
    rates = options.rates
    backend = CountingBackend(None if rates is None else Pacer(rates, rng))
    transfer = Transfer(
        url,
        backend,
        rng=rng if rates is not None else Random(),  # noqa: S311
        say=say,
        patience=Patience(options.stalled_after_s, options.give_up_after_s),
        tls=_tls(options.ca_file),
    )
    try:
        limits = Limits(options.max_task_seconds, options.max_task_bytes)
        care = LinkCare(
            options.budget,
            options.quiet_times,
            counted=lambda: sum(before) + backend.kernel().sent + backend.kernel().received,
            recall=folder.day,
            keep=folder.keep_day,
            now=datetime.now,
            sleep=time.sleep,
            say=say,
        )
        # Whatever is wrong with the problem shows before anything is said to a coordinator.
        for note in problem.notes:
            say(note)
        learner = _learner(problem, options, client_name(folder, options.name), device)
        rehearse(learner, problem.file)
        give_back_freed_memory()
        process = secrets.token_hex(3)
        credentials = enrol(transfer, folder, invite, options.name, moved=options.moved)
        while True:
            if credentials.client != learner.name:
                learner = _learner(problem, options, credentials.client, device)
            say(f"joined {transfer.address} as {credentials.client}; {len(learner.train)} training examples")
            agent = Agent(
                transfer, folder, learner,
                say=say, limits=limits, care=care, own_first=options.own_first, process=process,
                threads=options.threads, diary=say,
            )  # fmt: skip
            try:
                ended = agent.serve(forever=options.forever)
                break
            except KNOWN as error:
                say.remember(f"ends: {error}")
                agent.report(failed=True)
                if not isinstance(error, (ProblemError, TaskRefusedError)):
                    raise
                if error.reason == "model-mismatch" and (hint := _hint(options)):
                    said = str(error).removeprefix(f"{error.reason}: ").rstrip(".")
                    raise TaskRefusedError(error.reason, f"{said}. {hint}") from None
                if not isinstance(error, ProblemError) or error.reason != "token-invalid" or not invite:
                    raise
                say(f"{error}; enrolling again with the invite")
                credentials = enrol_again(transfer, folder, invite, options.name or credentials.client, error)
                invite = None
            except (UnreachableError, BadPeerError, UntrustedError):
                raise
            except Exception as error:
                # Its words may hold data, which stay here.
                say.remember(f"ends by a {type(error).__name__}")
                agent.report(failed=True)
                raise
        if options.keep_model is not None:
            care.hold(learner.spec.max_bytes)
            _keep_model(options.keep_model, ended, transfer, folder, learner)
            say(f"the final model is in {options.keep_model}")
        return Exit.OK, ""
    finally:
        kernel = backend.kernel()
        folder.keep_link(before[0] + kernel.sent, before[1] + kernel.received)
        if options.stats is not None:
            write_atomic(options.stats, json.dumps(_stats(backend)).encode(), fsync=False, mode=0o644)
        transfer.close()
        folder.close()


def learning_problem(options: ProblemSettings, train: int | None = None, test: int | None = None) -> LearningProblem:
    """The problem of these options; `train`, `test`: how many of its examples to use. Raises: `ProblemFileError`."""
    return find_problem(
        options.task,
        ProblemOptions(options.data, options.downloads, options.architecture, train, test, options.classes),
    )


def _learner(problem: LearningProblem, options: JoinSettings, name: str, device: str) -> Learner:
    client = ClientInfo(name, *options.part, options.seed, options.split)
    return Learner(problem, client, device=device, allow=options.allow, max_answer_bytes=options.max_answer_bytes)


def _hint(options: ProblemSettings) -> str:
    """What of these options often is the cause where a model is not the run's."""
    if options.classes is not None or not options.task.startswith("npz:"):
        return ""
    return (
        "The number of classes was read off the labels of this file alone; where other sites' files hold more, give "
        "--classes N, the same at all of them and at `model init`"
    )


def _keep_model(path: Path, ended: FinishedError, transfer: Transfer, folder: Folder, learner: Learner) -> None:
    """The final global model; for a method that has none, this client's own as it now is."""
    if ended.model is None:
        write_atomic(path, model_bytes(learner.arrays()), fsync=True, mode=0o644)
        return
    most = learner.spec.max_bytes + _MAX_MODEL_HEADER_BYTES
    model = download_payload(transfer, ended.model, None, folder.partial, most=most)
    write_atomic(path, model, fsync=True, mode=0o644)


def _stats(backend: CountingBackend) -> dict[str, object]:
    kernel = backend.kernel()
    return {
        "kernel": {"sent": kernel.sent, "received": kernel.received},
        "process": {"sent": backend.process.sent, "received": backend.process.received},
        "connections": backend.connections,
    }


def _device(text: str) -> str:
    try:
        torch.zeros(1, device=torch.device(text))
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {text}: {error}") from None
    return text


def invite_of(path: Path | None) -> str | None:
    """The invite of this file, or of the environment; None where there is none. Raises: `UsageError`."""
    if path is None:
        return os.environ.get("THINWIRE_INVITE", "").strip() or None
    try:
        with path.open() as file:
            return file.read(_MAX_INVITE_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--invite-file {path}: {error}") from None


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--ca-file {ca_file}: {error}") from None


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
