"""What is learnt, before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from thinwire.edge_client.settings import PartSettings, ProblemSettings, UsageError
from thinwire.protocol.exit_codes import Exit

from .root import AsFormat, command, task_app, told


@command(task_app, "check")
def task_check(
    task: Annotated[str, typer.Argument(help="as for `join`: a file ending in .py, digits, ...")],
    part: PartSettings,
    config: Annotated[Path | None, typer.Option(help="the run.toml of the run that is meant")] = None,
    method: Annotated[str | None, typer.Option(help="instead of that of the run; see `thinwire methods`")] = None,
    data: Annotated[Path | None, typer.Option(help="npz file of a built-in task that is not bundled")] = None,
    format_: AsFormat = "text",
) -> None:
    """Try a task without a coordinator: what travels, what a round costs, and what will go wrong."""
    with told():
        from pydantic import ValidationError

        from thinwire.edge_client.data import ClientInfo
        from thinwire.edge_client.join import learning_problem
        from thinwire.edge_client.learner import Learner
        from thinwire.edge_client.task_check import check_task, read_run
        from thinwire.methods.values import TaskRefusedError
        from thinwire.protocol.command_options import invalid
        from thinwire.protocol.reasons import ProblemError

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
    if format_ == "json":
        found = {"notes": problem.notes, "lines": dict(report.lines), "warnings": report.warnings}
        print(json.dumps(found, indent=2))
        raise typer.Exit(int(Exit.FAILED if report.warnings else Exit.OK))
    for note in problem.notes:
        print(f"! {note}")
    for word, said in report.lines:
        print(f"{word:<18} {said}")
    for warning in report.warnings:
        print(f"! {warning}")
    if report.warnings:
        raise typer.Exit(int(Exit.FAILED))
    print("nothing that was looked for will go wrong")
