"""Settings on a command line: every field of a model is an option, so that its name, bounds and meaning stand once.

Knows no library of command lines: a program hands over what makes an option of its own (`typer.Option`).
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Protocol, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from thinwire.machine.text import printable

from .exit_codes import Exit
from .settings import kebab

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Written:
    """How a field is written where its name does not say it: `out: Annotated[Path, Written("--out", "-o")]`. `envvar`:
    the variable that stands in for the option.
    """

    name: str = ""
    short: str = ""
    envvar: str | None = None
    metavar: str | None = None


def fail(program: str, message: str, code: Exit) -> NoReturn:
    """Ends the process with a message for the person at the terminal, whoever wrote it."""
    print(f"{program}: {printable(message, lines=True)}", file=sys.stderr)
    raise SystemExit(int(code))


def with_options(command: Command, *, program: str, option: Callable[..., Any]) -> Command:
    """The command with an option for each field of every parameter that is a settings model (or a dataclass of
    pydantic); it is called with the models, checked. What cannot be ends `program` with a line for each setting.

    `option(*names, help=, envvar=, metavar=, min=, max=)` is called for each. Fields without a default are required;
    seconds are written without their unit (`stalled_after_s` is `--stalled-after`); a yes that is the default has a
    `--no-...`; choices are words, and bounds that a command line does not know are the model's to check.
    """
    shown, models = list[inspect.Parameter](), dict[str, tuple[Callable[..., Any], Mapping[str, FieldInfo]]]()
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        fields: Mapping[str, FieldInfo] | None = getattr(parameter.annotation, "__pydantic_fields__", None)
        if fields is None:
            shown.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
        else:
            models[parameter.name] = parameter.annotation, fields
            shown += [_parameter(name, field, option) for name, field in fields.items()]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        made = {}
        for name, (model, fields) in models.items():
            values = {field: given.pop(field) for field in fields}
            try:
                made[name] = model(**{field: value for field, value in values.items() if value is not None})
            except ValidationError as error:
                names = {field: option_name(field, info) for field, info in fields.items()}
                fail(program, invalid(error, names), Exit.USAGE)
        command(**made, **given)

    called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # of any function
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return called


def option_name(name: str, field: FieldInfo) -> str:
    """The long name of a field's option."""
    written = _written(field)
    if written.name:
        return written.name
    # An underscore at the end keeps a field from a word of the language.
    bare = name.removesuffix("_s") if _plain(field.annotation) is float else name.removesuffix("_")
    return f"--{kebab(bare)}"


def invalid(error: ValidationError, called: Mapping[str, str] | None = None) -> str:
    """What a person has to change, one line per setting. `called`: what each is called where it was given; unknown ones
    are told the nearest of these names. Without it a name is its own, in kebab-case.
    """
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        steps = [str(step) for step in item["loc"]]
        where = ".".join((called or {}).get(step, kebab(step)) for step in steps)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument") and called is not None:
            near = get_close_matches(kebab(steps[-1]), list(called.values()), 1)
            message = f"there is no such setting{f'; did you mean {near[0]}?' if near else ''}"
        lines.append(f"{where}: {message} (given: {item['input']!r})" if where else message)
    return "\n  ".join(lines)


def _parameter(name: str, field: FieldInfo, option: Callable[..., Any]) -> inspect.Parameter:
    written, plain = _written(field), _plain(field.annotation)
    long = option_name(name, field)
    default = inspect.Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)
    bounds: dict[str, Any] = {}
    if plain is bool and default is True:
        long = f"{long}/--no-{long.removeprefix('--')}"
    if plain in (int, float):
        for bound in field.metadata:
            bounds |= {"min": bound.ge} if getattr(bound, "ge", None) is not None else {}
            bounds |= {"max": bound.le} if getattr(bound, "le", None) is not None else {}
    if get_origin(plain) is tuple:
        plain, default = list[get_args(plain)[0]], None  # type: ignore[misc]  # a type that is known when it runs
    names = (long, written.short) if written.short else (long,)
    made = option(*names, help=field.description, envvar=written.envvar, metavar=written.metavar, **bounds)
    annotation = Annotated[plain | None if default is None else plain, made]  # type: ignore[valid-type]  # likewise
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _written(field: FieldInfo) -> Written:
    return next((item for item in field.metadata if isinstance(item, Written)), Written())


def _plain(annotation: Any) -> Any:
    """The type as a command line knows it: without None, and words where there is a choice of them."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not NoneType)
    return str if get_origin(annotation) is Literal else annotation


class Program(Protocol):
    """A program or a group of it, as `typer.Typer` is one."""

    registered_commands: list[Any]
    registered_groups: list[Any]


def add_examples(program: Program, examples: Mapping[str, Sequence[str]], path: str) -> None:
    """The help of each command ends with its examples: command lines as they are typed. `examples`: by the command's
    full name; `path`: of this program.
    """
    for command in program.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        # Paragraphs, since lines of one are joined.
        command.epilog = "\n\n".join(["Examples:", *examples.get(f"{path} {name}", ())])
    for group in program.registered_groups:
        if f"{path} {group.name}" in examples:  # it does something without a command, too
            group.epilog = "\n\n".join(["Examples:", *examples[f"{path} {group.name}"]])
        add_examples(group.typer_instance, examples, f"{path} {group.name}")
