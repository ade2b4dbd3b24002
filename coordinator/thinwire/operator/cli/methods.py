"""`thinwire methods`: what there is to choose from, with every setting."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo

from thinwire.methods.registry import find_method, method_ids
from thinwire.operator.console import console
from thinwire.operator.sheet import Sheet

from .options import AsFormat, Format, print_json
from .run_settings import setting_name


def methods(format_: AsFormat = Format.TABLE) -> None:
    """The methods, and the settings of each."""
    found = [_described(method_id) for method_id in method_ids()]
    if format_ is Format.JSON:
        print_json({"methods": found})
        return
    screen = console()
    columns = ("setting", "type", "default", "meaning")
    for method in found:
        shown = Sheet(f"{method['id']}: {method['title']}", columns, text=columns)
        for setting in method["settings"]:
            shown.add_row(setting["name"], setting["type"], setting["default"], setting["meaning"])
        screen.print(shown)
        screen.print(f"{method['source']}\n", style="dim")


def _described(method_id: str) -> dict[str, Any]:
    method = find_method(method_id)
    settings = [
        {
            "name": setting_name(name, field),
            "type": _type(field),
            "default": "required" if field.is_required() else str(field.get_default(call_default_factory=True)),
            "meaning": field.description or "",
        }
        for name, field in method.settings.model_fields.items()
    ]
    return {"id": method.id, "title": method.title, "source": method.source, "settings": settings}


def _type(field: FieldInfo) -> str:
    text = str(field.annotation) if not isinstance(field.annotation, type) else field.annotation.__name__
    return text.replace("typing.", "")
