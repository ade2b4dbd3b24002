"""What `thinwire-client join` does, from its options to its exit code."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import torch

from thinwire.codecs import CodecError
from thinwire.machine.files import write_atomic
from thinwire.machine.memory import give_back_freed_memory, keep_freed_memory, limit_memory
from thinwire.machine.quantities import parse_bytes
from thinwire.machine.supervision import Supervisor
from thinwire.methods.model_file import model_bytes
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.reasons import ProblemError

from .agent import Agent
from .asking import ask_in
from .console import speaker
from .data import ClientInfo
from .devices import require_devices, require_own_loop
from .diary import Diary
from .enrolment import client_name, enrol, enrol_again
from .learner import Learner
from .limits import Limits, TaskTooLargeError, TaskTooLongError
from .link.care import OverBudgetError
from .link.replies import BadPeerError, FinishedError
from .link.resumable import download as download_payload
from .link.sockets import UntrustedError
from .link.transfer import Transfer, UnreachableError
from .memory.folder import Folder, FolderInUseError
from .memory.records import TornRecordError
from .problems.built_in import ProblemOptions, find_problem
from .problems.problem_file import LearningProblem, ProblemFileError, is_of_file, own_traceback
from .rehearsal import rehearse
from .settings import JoinSettings, ProblemSettings, UsageError
from .station import Station

_IN_OUR_WORDS: Final = (
    ProblemError, TaskRefusedError, TaskTooLongError, TaskTooLargeError, OverBudgetError, CodecError,
)  # fmt: skip
_MAX_INVITE_BYTES: Final = 1000
_MAX_MODEL_HEADER_BYTES: Final = 1 << 20
_LARGE_MODEL_BYTES: Final = 32 << 20
_KEPT_BESIDE_IT_BYTES: Final = 8 << 20


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
    except (TaskTooLongError, TaskTooLargeError, OverBudgetError, CodecError) as error:
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
    supervisor = Supervisor.of(os.environ)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    _leave_to_others(options)
    # Without it CUDA's matrix products are not the same from run to run; read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # What use_deterministic_algorithms(True, warn_only=True) does, without its import of the compiler.
    torch.set_deterministic_debug_mode("warn")
    require_devices(options.device)

    # Before anything is said to a coordinator, what is wrong at home shows.
    problem = learning_problem(options, *options.sizes)
    require_own_loop(options.device, has_fit=problem.fit is not None)
    invite = invite_of(options.invite_file)
    say = Diary(speaker(options.name or options.folder.name, quiet=options.quiet), options.log)
    with Station(url, options, say=say, supervisor=supervisor) as station:
        # Whatever is wrong with the problem shows before anything is said to a coordinator.
        for note in problem.notes:
            say(note)
        learner = _learner(problem, options, client_name(station.folder, options.name))
        if learner.spec.max_bytes >= _LARGE_MODEL_BYTES:
            keep_freed_memory(_KEPT_BESIDE_IT_BYTES)
        rehearse(learner, problem.file)
        give_back_freed_memory()
        station.standing.ready(station.transfer.address)
        _work(station, learner, problem, options, say=say, invite=invite)
    return Exit.OK, ""


def _work(
    station: Station,
    learner: Learner,
    problem: LearningProblem,
    options: JoinSettings,
    *,
    say: Diary,
    invite: str | None,
) -> None:
    """Enrols, and serves until the runs are over."""
    transfer, folder, standing = station.transfer, station.folder, station.standing
    limits = Limits(options.max_task_seconds, options.max_task_bytes, standing.within)
    process, start = secrets.token_hex(3), folder.begin()

    def asked(name: str) -> str:
        standing.hindered("waiting to be let in")
        return ask_in(transfer, folder, name, options.says, care=station.care, say=say, now_s=time.monotonic)

    credentials = enrol(transfer, folder, invite, options.name, ask_in=asked, moved=options.moved)
    while True:
        standing.joined(credentials.client)
        if credentials.client != learner.name:
            learner = _learner(problem, options, credentials.client)
        say(f"joined {transfer.address} as {credentials.client}; {len(learner.train)} training examples")
        agent = Agent(
            transfer, folder, learner,
            say=say, limits=limits, care=station.care, own_first=options.own_first, process=process,
            start=start, threads=options.threads, standing=standing, diary=say,
        )  # fmt: skip
        try:
            ended = _served(agent, say, forever=options.forever)
            break
        except (ProblemError, TaskRefusedError) as error:
            if error.reason == "model-mismatch" and (hint := _hint(options)):
                said = str(error).removeprefix(f"{error.reason}: ").rstrip(".")
                raise TaskRefusedError(error.reason, f"{said}. {hint}") from None
            if not isinstance(error, ProblemError) or error.reason != "token-invalid" or not invite:
                raise
            say(f"{error}; enrolling again with the invite")
            credentials = enrol_again(transfer, folder, invite, options.name or credentials.client, error)
            invite = None
    if options.keep_model is not None:
        station.care.hold(learner.spec.max_bytes)
        _keep_model(options.keep_model, ended, transfer, folder, learner)
        say(f"the final model is in {options.keep_model}")


def _served(agent: Agent, say: Diary, *, forever: bool) -> FinishedError:
    """Serves. What ends it by an error is told to the coordinator before, as far as it cannot hold data."""
    try:
        return agent.serve(forever=forever)
    except (UnreachableError, BadPeerError, UntrustedError):
        raise
    except Exception as error:
        say.remember(f"ends: {error}" if isinstance(error, _IN_OUR_WORDS) else f"ends by a {type(error).__name__}")
        agent.report(failed=True)
        raise


def learning_problem(options: ProblemSettings, train: int | None = None, test: int | None = None) -> LearningProblem:
    """The problem of these options; `train`, `test`: how many of its examples to use. Raises: `ProblemFileError`."""
    return find_problem(
        options.task,
        ProblemOptions(options.data, options.downloads, options.architecture, train, test, options.classes),
    )


def _learner(problem: LearningProblem, options: JoinSettings, name: str) -> Learner:
    client = ClientInfo(name, *options.part, options.seed, options.split)
    return Learner(
        problem, client, device=options.device, allow=options.allow, max_answer_bytes=options.max_answer_bytes
    )


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


def _leave_to_others(options: JoinSettings) -> None:
    """What this process may have of the machine. Raises: `UsageError`."""
    if options.nice is not None:
        os.nice(options.nice)
    if options.memory is not None:
        try:
            limit_memory(parse_bytes(options.memory))
        except ValueError as error:
            raise UsageError(f"--memory {options.memory}: {error}") from None


def invite_of(path: Path | None) -> str | None:
    """The invite of this file, or of the environment; None where there is none. Raises: `UsageError`."""
    if path is None:
        return os.environ.get("THINWIRE_INVITE", "").strip() or None
    try:
        with path.open() as file:
            return file.read(_MAX_INVITE_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--invite-file {path}: {error}") from None


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
