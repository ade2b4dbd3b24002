"""The database's history: Alembic, from the first table on."""
