"""The command `thinwire-client`. Torch is loaded only by the commands that need it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from thinwire.protocol.command_options import fail, with_options
from thinwire.protocol.exit_codes import Exit

from .settings import JoinSettings, PartSettings, PlaceSettings, ProblemSettings, SimulateSettings, UsageError

if TYPE_CHECKING:
    from torch import nn

PROGRAM: Final = "thinwire-client"
app = typer.Typer(
    name=PROGRAM,
    help="Takes part in federated training with this device's data, which never leaves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="What is done to models where torch is.", no_args_is_help=True)
app.add_typer(model_app, name="model")
task_app = typer.Typer(help="What is learnt, before anything is sent.", no_args_is_help=True)
app.add_typer(task_app, name="task")

ModelFile = Annotated[Path, typer.Argument(help="a safetensors file")]
SafetensorsFile = Annotated[Path, typer.Option("--out", "-o", help="a safetensors file")]
PartsSeed = Annotated[int, typer.Option(min=0, help="of the parts that never travelled")]


def _command(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command of this group, with the options of its settings models."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        group.command(name)(with_options(function, program=PROGRAM, option=typer.Option))
        return function

    return add


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with a model or its problem ends the command in words."""
    from .problems.problem_file import ProblemFileError

    try:
        yield
    except (ProblemFileError, ValueError, UsageError) as error:
        fail(PROGRAM, str(error), Exit.USAGE)
    except OSError as error:
        fail(PROGRAM, str(error), Exit.LOCAL)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version("thinwire"))
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", "-V", help="print the version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Takes part in federated training with this device's data, which never leaves it."""


@_command(app)
def join(
    url: Annotated[str, typer.Argument(help="of the coordinator, for example https://coordinator.example:8750")],
    options: JoinSettings,
) -> None:
    """Serve the coordinator's runs until they are over."""
    from .join import serve

    code, message = serve(url, options)
    if message:
        print(f"{PROGRAM}: {message}", file=sys.stderr)
    raise typer.Exit(int(code))


@_command(app)
def simulate(options: SimulateSettings) -> None:
    """Play whole runs in this process: settings of runs as lines of JSON in, what came of each as lines of JSON out.

    No coordinator, no network: `thinwire advise` asks this way. The lines are those of `thinwire.protocol.trials`.
    """
    with _told():
        from .trials import serve_trials

        serve_trials(options, sys.stdin, sys.stdout)


@_command(app)
def rotate(options: PlaceSettings) -> None:
    """Replace this client's token; the old one is worth nothing from now on."""
    from .console import speaker
    from .rotate import rotate as rotate_token

    code, message = rotate_token(options, speaker(options.name or "client", quiet=False))
    if code is not Exit.OK:
        fail(PROGRAM, message, code)
    print(message)


@_command(model_app, "init")
def model_init(
    problem: ProblemSettings,
    seed: Annotated[int, typer.Option(min=0, help="of all that is random in it")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="a file; default: standard output")] = None,
) -> None:
    """Make the first model of a task, as safetensors: what `thinwire run start --model` takes."""
    with _told():
        from thinwire.methods.model_file import model_bytes

        from . import model
        from .join import learning_problem

        model.write_out(model_bytes(model.first_model(learning_problem(problem), seed)), out)


@_command(model_app, "export")
def model_export(
    file: ModelFile,
    problem: ProblemSettings,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="ends in .safetensors or .pt")] = None,
    peft: Annotated[
        Path | None, typer.Option(help="instead: a folder for the adapters alone, as the package peft reads them")
    ] = None,
    seed: PartsSeed = 0,
) -> None:
    """Write the whole `state_dict` of the task's model with these arrays in it, or its adapters."""
    with _told():
        from . import adapters, model

        if (out is None) == (peft is None):
            raise ValueError("give --out or --peft")
        whole = _task_model(file, problem, seed)
        if out is not None:
            model.export_state(whole, out)
        elif peft is not None:
            adapters.write_peft(whole, peft)


@_command(model_app, "merge")
def model_merge(
    file: ModelFile,
    problem: ProblemSettings,
    out: Annotated[Path, typer.Option("--out", "-o", help="ends in .safetensors or .pt")],
    seed: PartsSeed = 0,
) -> None:
    """Write the `state_dict` of the base with its adapters added to it: for models whose task adds adapters."""
    with _told():
        from . import adapters, model

        model.export_state(adapters.merge_adapters(_task_model(file, problem, seed)), out)


def _task_model(file: Path, problem: ProblemSettings, seed: int) -> nn.Module:
    """The model of a task with the arrays of a file in it."""
    from . import model
    from .join import learning_problem

    learned = learning_problem(problem)
    return model.task_model(learned, model.trained_model(file, partial(model.first_model, learned, seed)), seed)


@_command(model_app, "compact")
def model_compact(
    file: ModelFile,
    problem: ProblemSettings,
    out: SafetensorsFile,
    energy: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="each matrix keeps; default: its numerical rank")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="instead: the smallest energy that costs at most so much loss")
    ] = None,
    spatial: Annotated[bool, typer.Option("--spatial", help="k x 1 then 1 x k, instead of k x k then 1 x 1")] = False,
    seed: PartsSeed = 0,
) -> None:
    """Write the model whose layers are pairs of thin layers: for models trained with feddlr."""
    with _told():
        from thinwire.methods.model_file import model_bytes

        from . import model
        from .join import learning_problem

        if energy is not None and tolerance is not None:
            raise ValueError("give --energy or --tolerance, not both")
        learned = learning_problem(problem)
        arrays, words = model.compact_arrays(
            learned,
            model.trained_model(file, partial(model.first_model, learned, seed)),
            seed,
            energy=energy,
            tolerance=tolerance,
            unfolding="spatial" if spatial else "channel",
        )
        model.write_out(model_bytes(arrays), out)
        print(words)


@_command(model_app, "expand")
def model_expand(
    file: ModelFile,
    out: SafetensorsFile,
    start: Annotated[
        Path | None,
        typer.Option(help="the run's first model, a safetensors file: for models trained with seed_scalars"),
    ] = None,
) -> None:
    """Write the arrays of a model that is stored as a seed and a mask, or as steps from its first model: for models
    trained with sparse_masks or seed_scalars.
    """
    with _told():
        from thinwire.methods.model_file import model_bytes

        from . import model

        arrays = model.trained_model(file, None if start is None else partial(model.read_start, start))
        model.write_out(model_bytes(arrays), out)
        print(model.described(arrays))


@_command(model_app, "spec")
def model_spec(problem: ProblemSettings) -> None:
    """Show which arrays of a task's model travel, and how many parameters they have."""
    with _told():
        from . import model
        from .join import learning_problem

        print(model.described(model.first_model(learning_problem(problem), 0)))


def main() -> None:
    """The console script."""
    app()


@_command(task_app, "check")
def task_check(
    task: Annotated[str, typer.Argument(help="as for `join`: a file ending in .py, digits, ...")],
    part: PartSettings,
    config: Annotated[Path | None, typer.Option(help="the run.toml of the run that is meant")] = None,
    method: Annotated[str | None, typer.Option(help="instead of that of the run; see `thinwire methods`")] = None,
    data: Annotated[Path | None, typer.Option(help="npz file of a built-in task that is not bundled")] = None,
) -> None:
    """Try a task without a coordinator: what travels, what a round costs, and what will go wrong."""
    with _told():
        from pydantic import ValidationError

        from thinwire.methods.values import TaskRefusedError
        from thinwire.protocol.command_options import invalid
        from thinwire.protocol.reasons import ProblemError

        from .data import ClientInfo
        from .join import learning_problem
        from .learner import Learner
        from .task_check import check_task, read_run

        try:
            run = read_run(config, method)
        except ValidationError as error:
            raise UsageError(invalid(error)) from None
        problem = learning_problem(ProblemSettings(task=task, data=data))
        learner = Learner(problem, ClientInfo("check", *part.part, part.seed, part.split))
        try:
            report = check_task(problem, learner, run)
        except (TaskRefusedError, ProblemError) as error:
            raise UsageError(f"{run.method} cannot train this task: {error}") from None
    for note in problem.notes:
        print(f"! {note}")
    for word, said in report.lines:
        print(f"{word:<18} {said}")
    for warning in report.warnings:
        print(f"! {warning}")
    if report.warnings:
        raise typer.Exit(int(Exit.FAILED))
    print("nothing that was looked for will go wrong")
