"""What is done to models where torch is."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinwire.edge_client.settings import ProblemSettings

from .root import AsFormat, command, model_app, told

if TYPE_CHECKING:
    from torch import nn

ModelFile = Annotated[Path, typer.Argument(help="a safetensors file")]
SafetensorsFile = Annotated[Path, typer.Option("--out", "-o", help="a safetensors file")]
PartsSeed = Annotated[int, typer.Option(min=0, help="of the parts that never travelled")]


@command(model_app, "init")
def model_init(
    problem: ProblemSettings,
    seed: Annotated[int, typer.Option(min=0, help="of all that is random in it")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="a file; default: standard output")] = None,
) -> None:
    """Make the first model of a task, as safetensors: what `thinwire run start --model` takes."""
    with told():
        from thinwire.edge_client import model
        from thinwire.edge_client.join import learning_problem
        from thinwire.methods.model_file import model_bytes

        model.write_out(model_bytes(model.first_model(learning_problem(problem), seed)), out)


@command(model_app, "export")
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
    with told():
        from thinwire.edge_client import adapters, model

        if (out is None) == (peft is None):
            raise ValueError("give --out or --peft")
        whole = _task_model(file, problem, seed)
        if out is not None:
            model.export_state(whole, out)
        elif peft is not None:
            adapters.write_peft(whole, peft)


@command(model_app, "merge")
def model_merge(
    file: ModelFile,
    problem: ProblemSettings,
    out: Annotated[Path, typer.Option("--out", "-o", help="ends in .safetensors or .pt")],
    seed: PartsSeed = 0,
) -> None:
    """Write the `state_dict` of the base with its adapters added to it: for models whose task adds adapters."""
    with told():
        from thinwire.edge_client import adapters, model

        model.export_state(adapters.merge_adapters(_task_model(file, problem, seed)), out)


def _task_model(file: Path, problem: ProblemSettings, seed: int) -> nn.Module:
    """The model of a task with the arrays of a file in it."""
    from thinwire.edge_client import model
    from thinwire.edge_client.join import learning_problem

    learned = learning_problem(problem)
    return model.task_model(learned, model.trained_model(file, partial(model.first_model, learned, seed)), seed)


@command(model_app, "compact")
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
    with told():
        from thinwire.edge_client import model
        from thinwire.edge_client.join import learning_problem
        from thinwire.methods.model_file import model_bytes

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


@command(model_app, "expand")
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
    with told():
        from thinwire.edge_client import model
        from thinwire.methods.model_file import model_bytes

        arrays = model.trained_model(file, None if start is None else partial(model.read_start, start))
        model.write_out(model_bytes(arrays), out)
        print(model.described(arrays))


@command(model_app, "spec")
def model_spec(problem: ProblemSettings, format_: AsFormat = "text") -> None:
    """Show which arrays of a task's model travel, and how many parameters they have."""
    with told():
        from thinwire.edge_client import model
        from thinwire.edge_client.join import learning_problem

        arrays = model.first_model(learning_problem(problem), 0)
        if format_ == "json":
            print(json.dumps(model.in_plain(arrays), indent=2))
        else:
            print(model.described(arrays))
