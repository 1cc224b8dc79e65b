"""`INSERT … ON CONFLICT`, which both databases know and SQLAlchemy spells in a dialect of each."""

from __future__ import annotations

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_for(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert into this table that can say what a conflict becomes."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
