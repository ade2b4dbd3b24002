"""Pages of reports, filled in from their templates."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader

from thinwire.machine.text import printable


def filled(template: str, **facts: Any) -> str:
    """The page. What facts say is shown as it is: no markup and no control character of theirs has an effect."""
    environment = Environment(
        loader=PackageLoader("thinwire.operator.reports"),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return environment.get_template(template).render(facts)
