"""Brings a database to the form this program knows, step by step, in one transaction that only one node is in."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from relay.errors import ConfigError
from relay.store.database import Database, Lock
from relay.store.tables import METADATA

# The last step there is.
NEWEST = "0003"
_STEPS = Path(__file__).parent / "migrations"
# Alembic keeps what it is doing in its modules.
_one_at_a_time = threading.Lock()


def form_in(connection: Connection) -> str | None:
    """The form a database has, `0001`; None: it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(database: Database, to: str = NEWEST) -> tuple[str | None, str]:
    """Do the steps that are missing; the forms before and after. Blocks.

    Raises StoreError, and ConfigError for a database of a newer program.
    """
    with _one_at_a_time:
        return database.run_here(lambda connection: _migrate_in(database, connection, to))


def _migrate_in(database: Database, connection: Connection, to: str) -> tuple[str | None, str]:
    if not database.is_sqlite:
        # Steps may take long where there is much, and another node's may have to be waited for.
        connection.execute(text("SET LOCAL statement_timeout = '10min'"))
    database.lock(connection, Lock.MIGRATION)
    before = form_in(connection)
    if before == to:
        return before, to
    if database.in_memory:
        # Nothing is older than the process: no steps are needed to the same form.
        METADATA.create_all(connection)
        return None, to
    _upgrade(connection, before, to)
    return before, to


def _upgrade(connection: Connection, before: str | None, to: str) -> None:
    # Loaded where there is something to do only: it takes as long as the rest of the start.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_STEPS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if before is not None and before not in known:
        raise ConfigError(
            f"store.url: the database has form {before} and this version of the relay knows forms up to {NEWEST}: a "
            "newer version used it; run that one, or go back to a copy made before it"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, to)
