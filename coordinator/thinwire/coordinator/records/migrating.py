"""The tables of a database: made at once where there are none, else brought from an older version's to these.

Alembic is loaded for the latter alone: it takes 10 MB, which a service that finds its tables as they are to be, or
makes them, does not need.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, select

from .tables import metadata

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_FILE: Final = re.compile(r"r(\d{4})_\w+\.py")
_NAME: Final = "alembic_version"
_version = Table(
    _NAME, MetaData(), Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{_NAME}_pkc"),
)  # fmt: skip


def newest() -> str:
    """The version of the tables that this program uses: that of the last migration."""
    files = map(_FILE.fullmatch, (path.name for path in (_MIGRATIONS / "versions").iterdir()))
    return max(found[1] for found in files if found is not None)


def migrate(connection: Connection) -> None:
    """The tables are these from now on. Raises: what the database raises, and alembic."""
    if not inspect(connection).has_table(_NAME):
        make(connection)
    elif connection.scalars(select(_version.c.version_num)).all() != [newest()]:
        upgrade(connection)


def make(connection: Connection) -> None:
    """The tables, of a database that has none."""
    metadata.create_all(connection)
    _version.create(connection)
    connection.execute(insert(_version), {"version_num": newest()})


def upgrade(connection: Connection) -> None:
    """Any older version's tables become these, migration by migration."""
    import alembic.command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
