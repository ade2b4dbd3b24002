"""What operators do to runs, as forms: each is a command of the command line, too."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.responses import RedirectResponse

from thinwire.coordinator.api.parts import RunKey, of
from thinwire.coordinator.runs.rows import RunCommand
from thinwire.coordinator.serve.commands import Commands
from thinwire.coordinator.wire.auditing import tell_detail
from thinwire.coordinator.wire.identity import require_operator
from thinwire.protocol.command_options import invalid
from thinwire.protocol.messages import RunChange
from thinwire.protocol.reasons import ProblemError

from .routing import form_of, refusal

COMMANDS: Final[dict[str, RunCommand]] = {"pause": "pause", "resume": "resume", "stop": "stop"}
router = APIRouter(include_in_schema=False)


@router.post("/runs/{run}/settings")
async def change(request: Request, run: RunKey) -> Response:
    try:
        require_operator(request)
        form = {name: value for name, value in (await form_of(request)).items() if value.strip()}
        try:
            wanted = RunChange.model_validate_strings(form, strict=False)
        except ValidationError as error:
            raise ProblemError("bad-message", invalid(error)) from None
        await of(request, Commands).change(run, wanted)
    except ProblemError as error:
        return refusal(request, error)
    tell_detail(request, ", ".join(f"{name} {value}" for name, value in form.items()))
    return RedirectResponse(f"/runs/{run}", 303)


@router.post("/runs/{run}/delete")
async def delete(request: Request, run: RunKey) -> Response:
    try:
        require_operator(request)
        await of(request, Commands).delete(run)
    except ProblemError as error:
        return refusal(request, error)
    return RedirectResponse("/", 303)


@router.post("/runs/{run}/{command}")
async def command(request: Request, run: RunKey, command: str) -> Response:
    try:
        require_operator(request)
        if command not in COMMANDS:
            raise ProblemError("not-found")
        await of(request, Commands).command(run, COMMANDS[command])
    except ProblemError as error:
        return refusal(request, error)
    return RedirectResponse(f"/runs/{run}", 303)
