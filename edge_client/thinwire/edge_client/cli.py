"""The command `thinwire-client`. Torch is loaded only by the commands that need it."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from thinwire.protocol.exit_codes import Exit

app = typer.Typer(
    name="thinwire-client",
    help="Takes part in federated training with this device's data, which never leaves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="What is done to models where torch is.", no_args_is_help=True)
app.add_typer(model_app, name="model")

TaskText = Annotated[
    str, typer.Option("--task", help="a file ending in .py; or digits, mnist, fashion_mnist, cifar10, npz:FILE, ...")
]
DataFile = Annotated[Path | None, typer.Option("--data", help="npz file of a built-in task that is not bundled")]
Architecture = Annotated[str | None, typer.Option("--architecture", help="of a built-in task, instead of its own")]
Limit = Annotated[str | None, typer.Option("--limit", help="use only so many examples: TRAIN or TRAIN/TEST")]
Download = Annotated[bool, typer.Option("--download", help="fetch the data of a built-in task from the usual place")]
ModelFile = Annotated[Path, typer.Argument(help="a safetensors file")]


def fail(message: str, code: Exit) -> NoReturn:
    """Ends the process with a message for the person at the terminal."""
    print(f"thinwire-client: {message}", file=sys.stderr)
    raise typer.Exit(int(code))


def default_folder() -> Path:
    """Where data of users belong (XDG)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "thinwire-client"


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


@app.command()
def join(
    url: Annotated[str, typer.Argument(help="of the coordinator, for example https://coordinator.example:8750")],
    task: TaskText,
    invite_file: Annotated[
        Path | None, typer.Option(help="file with the invite; or set THINWIRE_INVITE. Needed once")
    ] = None,
    name: Annotated[str | None, typer.Option(help="this client's stable name")] = None,
    split: Annotated[str, typer.Option(help="iid, dirichlet:ALPHA, classes:K or natural")] = "iid",
    share: Annotated[str, typer.Option(help="which part of how many is this client's: 3/8, counted from 0")] = "0/1",
    seed: Annotated[int, typer.Option(min=0, help="of split and fresh model; the same on all clients")] = 0,
    data: DataFile = None,
    download: Download = False,
    architecture: Architecture = None,
    limit: Limit = None,
    threads: Annotated[int | None, typer.Option(min=1, help="of torch")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps")] = "cpu",
    link: Annotated[str | None, typer.Option(help="emulate 4g, 3g, nb-iot, satellite or RATE,RTT,LOSS")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="this client's folder: one per client")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="consent, for example sample-knowledge")] = None,
    max_task_seconds: Annotated[float, typer.Option(min=0.001, help="longest training of one task")] = 86_400.0,
    max_task_bytes: Annotated[int, typer.Option(min=1, help="arrays of one task, decoded")] = 1 << 33,
    max_answer_bytes: Annotated[
        int | None, typer.Option(min=1, help="largest answer to send; feddlr lowers its ranks to fit")
    ] = None,
    own_first: Annotated[
        bool,
        typer.Option(help="make the run's first model here, where it is this client's own, instead of downloading it"),
    ] = True,
    keep_model: Annotated[Path | None, typer.Option(help="write the final model here (safetensors)")] = None,
    forever: Annotated[bool, typer.Option("--forever", help="wait for further runs when all are over")] = False,
    give_up_after: Annotated[float | None, typer.Option(min=0, help="seconds without any answer")] = None,
    stalled_after: Annotated[float, typer.Option(min=0.1, help="seconds without one byte in a transfer")] = 60.0,
    max_uplink: Annotated[str | None, typer.Option(help="bits per second to use at most: 64kbit, 2mbit")] = None,
    max_downlink: Annotated[str | None, typer.Option(help="bits per second to use at most: 64kbit, 2mbit")] = None,
    metered: Annotated[
        bool, typer.Option("--metered", help="the link is billed: 50MB a day, unless --bytes-per-day says otherwise")
    ] = False,
    bytes_per_day: Annotated[
        str | None, typer.Option(help="both directions, by the local day: 50MB. What is used up, waits")
    ] = None,
    quiet_hours: Annotated[str | None, typer.Option(help="no transfer begins in them: 22:00-06:30, local time")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="certificates to trust instead of the system's")] = None,
    stats: Annotated[Path | None, typer.Option(help="write byte counts here at exit, as JSON")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="say nothing but errors")] = False,
) -> None:
    """Serve the coordinator's runs until they are over."""
    from .join import JoinOptions, serve

    options = JoinOptions(
        url=url,
        task=task,
        invite_file=invite_file,
        name=name,
        split=split,
        share=share,
        seed=seed,
        data=data,
        download=download,
        architecture=architecture,
        limit=limit,
        threads=threads,
        device=device,
        own_first=own_first,
        link=link,
        folder=data_dir or default_folder() / (name or "client"),
        allow=tuple(allow or ()),
        max_task_seconds=max_task_seconds,
        max_task_bytes=max_task_bytes,
        max_answer_bytes=max_answer_bytes,
        keep_model=keep_model,
        forever=forever,
        give_up_after_s=give_up_after,
        stalled_after_s=stalled_after,
        max_uplink=max_uplink,
        max_downlink=max_downlink,
        metered=metered,
        bytes_per_day=bytes_per_day,
        quiet_hours=quiet_hours,
        ca_file=ca_file,
        stats=stats,
        quiet=quiet,
    )
    code, message = serve(options)
    if message:
        print(f"thinwire-client: {message}", file=sys.stderr)
    raise typer.Exit(int(code))


@app.command()
def rotate(
    name: Annotated[str | None, typer.Option(help="the client's name, where its folder is the usual one")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="the client's folder")] = None,
    give_up_after: Annotated[float | None, typer.Option(min=0, help="seconds without any answer")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="certificates to trust instead of the system's")] = None,
) -> None:
    """Replace this client's token; the old one is worth nothing from now on."""
    from .console import speaker
    from .rotate import rotate as rotate_token

    folder = data_dir or default_folder() / (name or "client")
    say = speaker(name or folder.name, quiet=False)
    code, message = rotate_token(folder, ca_file=ca_file, give_up_after_s=give_up_after, say=say)
    if code is not Exit.OK:
        fail(message, code)
    print(message)


@model_app.command("init")
def model_init(
    task: TaskText,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="a file; default: standard output")] = None,
    data: DataFile = None,
    download: Download = False,
    architecture: Architecture = None,
) -> None:
    """Make the first model of a task, as safetensors: what `thinwire run start --model` takes."""
    from . import model
    from .join import learning_problem
    from .problems.problem_file import ProblemFileError

    try:
        arrays = model.first_model(learning_problem(task, data, download, architecture, None), seed)
        model.write_out(model.model_bytes(arrays), out)
    except ProblemFileError as error:
        fail(str(error), Exit.USAGE)
    except OSError as error:
        fail(str(error), Exit.LOCAL)


@model_app.command("export")
def model_export(
    file: ModelFile,
    task: TaskText,
    out: Annotated[Path, typer.Option("--out", "-o", help="ends in .safetensors or .pt")],
    seed: Annotated[int, typer.Option(min=0, help="of the parts that never travelled")] = 0,
    data: DataFile = None,
    download: Download = False,
    architecture: Architecture = None,
) -> None:
    """Write the whole `state_dict` of the task's model with these arrays in it."""
    from . import model
    from .join import learning_problem
    from .problems.problem_file import ProblemFileError

    try:
        model.export_state(
            learning_problem(task, data, download, architecture, None), model.trained_model(file), seed, out
        )
    except (ProblemFileError, ValueError) as error:
        fail(str(error), Exit.USAGE)
    except OSError as error:
        fail(str(error), Exit.LOCAL)


@model_app.command("compact")
def model_compact(
    file: ModelFile,
    task: TaskText,
    out: Annotated[Path, typer.Option("--out", "-o", help="a safetensors file")],
    energy: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="each matrix keeps; default: its numerical rank")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="instead: the smallest energy that costs at most so much loss")
    ] = None,
    spatial: Annotated[bool, typer.Option("--spatial", help="k x 1 then 1 x k, instead of k x k then 1 x 1")] = False,
    seed: Annotated[int, typer.Option(min=0, help="of the parts that never travelled")] = 0,
    data: DataFile = None,
    download: Download = False,
    architecture: Architecture = None,
) -> None:
    """Write the model whose layers are pairs of thin layers: for models trained with feddlr."""
    from . import model
    from .join import learning_problem
    from .problems.problem_file import ProblemFileError

    try:
        if energy is not None and tolerance is not None:
            raise ValueError("give --energy or --tolerance, not both")
        arrays, words = model.compact_arrays(
            learning_problem(task, data, download, architecture, None),
            model.trained_model(file),
            seed,
            energy=energy,
            tolerance=tolerance,
            unfolding="spatial" if spatial else "channel",
        )
        model.write_out(model.model_bytes(arrays), out)
        print(words)
    except (ProblemFileError, ValueError) as error:
        fail(str(error), Exit.USAGE)
    except OSError as error:
        fail(str(error), Exit.LOCAL)


@model_app.command("expand")
def model_expand(file: ModelFile, out: Annotated[Path, typer.Option("--out", "-o", help="a safetensors file")]) -> None:
    """Write the arrays of a model that is stored as a seed and a mask: for models trained with sparse_masks."""
    from . import model

    try:
        arrays = model.trained_model(file)
        model.write_out(model.model_bytes(arrays), out)
        print(model.described(arrays))
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    except OSError as error:
        fail(str(error), Exit.LOCAL)


@model_app.command("spec")
def model_spec(
    task: TaskText,
    data: DataFile = None,
    download: Download = False,
    architecture: Architecture = None,
) -> None:
    """Show which arrays of a task's model travel, and how many parameters they have."""
    from . import model
    from .join import learning_problem
    from .problems.problem_file import ProblemFileError

    try:
        print(model.described(model.first_model(learning_problem(task, data, download, architecture, None), 0)))
    except ProblemFileError as error:
        fail(str(error), Exit.USAGE)


def main() -> None:
    """The console script."""
    app()
