"""`thinwire codecs`: what there is to choose from, and what a chain makes of somebody's arrays."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from safetensors import SafetensorError
from safetensors.numpy import load_file

from thinwire.codecs import CODECS, ArrayCodec, Arrays, BytesCodec, Chain, CodecError, Spec
from thinwire.machine.quantities import in_bytes
from thinwire.operator.console import console
from thinwire.operator.sheet import Sheet
from thinwire.protocol.exit_codes import Exit

from .options import AsFormat, Format, fail, print_json

app = typer.Typer(help="The codecs, and what a chain of them makes of arrays.")

_Codec = type[ArrayCodec] | type[BytesCodec]


@app.callback(invoke_without_command=True)
def codecs(context: typer.Context, format_: AsFormat = Format.TABLE) -> None:
    """The codecs, and the settings of each."""
    if context.invoked_subcommand is not None:
        return
    found = [_described(name, codec) for name, codec in CODECS.items()]
    if format_ is Format.JSON:
        print_json({"codecs": found})
        return
    columns = ("codec", "of", "settings", "what it does")
    shown = Sheet(None, columns, text=columns)
    for item in found:
        settings = ", ".join(f"{setting['name']}={setting['default']!r}" for setting in item["settings"])
        shown.add_row(item["name"], item["of"], settings, item["meaning"])
    console().print(shown)


def _described(name: str, codec: _Codec) -> dict[str, Any]:
    settings = [
        {
            "name": field.name,
            "type": str(field.type),
            "default": field.default if field.default_factory is MISSING else field.default_factory(),
        }
        for field in fields(codec)  # type: ignore[arg-type]  # every codec is a dataclass
    ]
    meaning = " ".join((codec.__doc__ or "").split("\n\n")[0].split())
    return {
        "name": name,
        "of": "arrays" if issubclass(codec, ArrayCodec) else "bytes",
        "settings": settings,
        "meaning": meaning,
    }


@app.command("try")
def try_chain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="arrays, as safetensors")],
    chain: Annotated[str, typer.Option(help="for example: cast(f16), byte_shuffle(2), zstd")],
    reference: Annotated[Path | None, typer.Option(help="what the receiver holds, as safetensors; for delta")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of everything random")] = 0,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Encode arrays and decode them: bytes and errors, of each array in a payload of its own and of all in one."""
    arrays = _read(file)
    base = None if reference is None else _read(reference)
    try:
        chosen, spec = Chain.parse(chain), Spec.of(arrays)
        # With all other arrays left out, and the same spec: what a codec decides by the spec stays as it is.
        alone = spec.with_optional()
        rows = [
            {"name": name, "dtype": spec[name].dtype, "shape": list(array.shape)}
            | _measured(chosen, {name: array}, alone, base, seed)
            for name, array in arrays.items()
        ]
        total = _measured(chosen, arrays, spec, base, seed)
    except CodecError as error:
        fail(f"{error.reason}: {error.detail}", Exit.USAGE)
    if format_ is Format.JSON:
        print_json({"chain": str(chosen), "arrays": rows, "total": total})
        return
    columns = ("array", "dtype", "shape", "before", "after", "ratio", "largest error", "rms error")
    # As it was given: the canonical form leaves out what is a default.
    shown = Sheet(chain.strip() or "the bare container", columns, text=columns[:3])
    shown.caption = "each array in a payload of its own; all: in one payload"
    for row in rows:
        shown.add_row(row["name"], row["dtype"], " x ".join(map(str, row["shape"])), *_figures(row))
    shown.add_section()
    shown.add_row("all", "", "", *_figures(total))
    console().print(shown)


def _read(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except OSError as error:
        fail(str(error), Exit.USAGE)
    except (SafetensorError, KeyError, TypeError) as error:  # the latter two: a dtype that numpy lacks
        fail(f"{path}: no safetensors file of arrays that can travel: {error}", Exit.USAGE)


def _measured(chain: Chain, arrays: Arrays, spec: Spec, reference: Arrays | None, seed: int) -> dict[str, Any]:
    """Bytes before and after, their ratio, and the largest and root mean square error; None for one without bound."""
    payload = chain.encode(arrays, spec, reference=reference, seed=seed)
    decoded = chain.decode(payload, spec, reference=reference, seed=seed)
    before = sum(array.nbytes for array in arrays.values())
    errors = [_errors(array, decoded[name]) for name, array in arrays.items()]
    apart = np.concatenate([np.zeros(0), *errors])
    largest = float(apart.max(initial=0.0))
    rms = float(np.linalg.norm(apart / (largest or 1.0)) * largest / max(1, apart.size) ** 0.5)
    bounded = np.isfinite(largest)
    return {
        "bytes_before": before,
        "bytes_after": len(payload),
        "ratio": before / len(payload),
        "largest_error": largest if bounded else None,
        "rms_error": rms if bounded else None,
    }


def _errors(before: Any, after: Any) -> Any:
    """|after - before| of each element, in float64: 0 where both are the same or no number, inf where one is."""
    exact, found = before.astype(np.float64).reshape(-1), after.astype(np.float64).reshape(-1)
    same = (exact == found) | (np.isnan(exact) & np.isnan(found))
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.where(same, 0.0, np.abs(found - exact)), nan=np.inf, posinf=np.inf)


def _figures(row: dict[str, Any]) -> tuple[str, ...]:
    errors = ("inf" if row[key] is None else f"{row[key]:.3g}" for key in ("largest_error", "rms_error"))
    return in_bytes(row["bytes_before"]), in_bytes(row["bytes_after"]), f"{row['ratio']:.2f}", *errors
